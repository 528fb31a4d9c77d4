import numpy as np
import pytest

from sklearn_anogan.datasets import make_retina

KINDS = ["subretinal fluid", "intraretinal fluid", "bright foci"]


@pytest.fixture(scope="module")
def pairs():
    """The same 30 retinas without and with an anomaly."""
    return (
        make_retina(30, anomalous=0, random_state=0),
        make_retina(30, anomalous=1, random_state=0),
    )


def test_what_is_returned():
    retina = make_retina(20, (64, 100), anomalous=0.3, random_state=0)
    assert retina.images.shape == retina.masks.shape == (20, 64, 100)
    assert retina.images.dtype == np.uint8
    assert retina.masks.dtype == bool
    np.testing.assert_array_equal(retina.target, [1] * 14 + [-1] * 6)
    assert list(retina.kinds) == ["normal"] * 14 + KINDS * 2
    np.testing.assert_array_equal(retina.masks.any((1, 2)), retina.target == -1)


@pytest.mark.parametrize("shape", [(32, 32), (33, 200), (200, 50), (96, 128)])
def test_any_size(shape):
    retina = make_retina(12, shape, anomalous=1.0, random_state=1)
    assert retina.images.shape == (12, *shape)
    assert retina.masks.any((1, 2)).all()
    assert retina.masks.mean() < 0.1


def test_seeded(pairs):
    again = make_retina(30, random_state=0)
    np.testing.assert_array_equal(again.images, pairs[0].images)
    other = make_retina(30, random_state=1)
    assert not np.array_equal(other.images, pairs[0].images)
    state = np.random.RandomState(0)
    np.testing.assert_array_equal(
        make_retina(30, random_state=state).images[0], again.images[0]
    )
    assert not np.array_equal(make_retina(1).images, make_retina(1).images)


@pytest.mark.parametrize("kind", KINDS)
def test_anomalies_differ_where_the_mask_says(pairs, kind):
    """Fluid is darker than the tissue it displaces, foci are brighter."""
    normal, anomalous = pairs
    for i in np.flatnonzero(anomalous.kinds == kind):
        mask = anomalous.masks[i]
        before, after = (float(X.images[i][mask].mean()) for X in (normal, anomalous))
        if kind == "bright foci":
            assert after > 1.3 * before
        else:
            assert after < 0.6 * before
        changed = normal.images[i] != anomalous.images[i]
        if kind != "subretinal fluid":  # which lifts the layers above
            rows, columns = np.nonzero(changed & ~mask)
            near = np.pad(mask, 4)
            assert all(
                near[r : r + 9, c : c + 9].any()
                for r, c in zip(rows, columns, strict=True)
            )


def test_layers():
    """The vitreous is dark, the pigment epithelium bright, the choroid fades."""
    mean = make_retina(60, random_state=0).images.mean(axis=(0, 2))
    assert mean[:8].max() < 20
    brightest = mean.argmax()
    assert 0.55 < brightest / len(mean) < 0.75
    assert mean[-1] < mean[brightest] / 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shape": (31, 50)}, "whole numbers of at least 32"),
        ({"shape": (50, 50, 3)}, "shape must be"),
        ({"anomalous": 1.5}, "'anomalous' parameter"),
        ({"n_samples": 0}, "'n_samples' parameter"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_retina(**parameters)
