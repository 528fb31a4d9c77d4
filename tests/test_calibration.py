from dataclasses import replace

import numpy as np
import pytest
import torch

from sklearn_anogan._calibration import (
    PIXEL_SHARES,
    Calibration,
    conformal_p_values,
    folds_of,
    map_threshold_at,
    quantiles_of_maps,
    threshold_for_unseen,
)

SHAPES = {"a": {}, "b": {"scale": (1, 2, 3), "n": ()}}


@pytest.fixture
def calibration(rng):
    learned = {"scale": torch.rand(1, 2, 3).double(), "n": torch.tensor(4.0).double()}
    held_out = {"a": rng.uniform(size=5), "b": rng.uniform(size=5)}
    groups = np.array([0, 2, 0, 1, 2])
    return Calibration(
        held_out, groups, True, False, {"tol": 0.1}, {"a": {}, "b": learned}
    )


def assert_same(again, calibration):
    assert again.has_groups is True
    assert again.is_held_out is False
    assert again.n_groups == calibration.n_groups
    assert again.parameters == calibration.parameters
    np.testing.assert_array_equal(again.groups, calibration.groups)
    assert again.groups.dtype == np.int64
    for name, values in calibration.held_out.items():
        np.testing.assert_array_equal(again.held_out[name], values)
        for key, tensor in calibration.learned[name].items():
            assert torch.equal(again.learned[name][key], tensor)


def test_round_trip(calibration):
    plain, tensors = calibration.to_plain()
    again = Calibration.from_plain(plain, tensors, [{"tol": 0.1}], SHAPES)
    assert not tensors
    assert again.replaced is None
    assert again.of_fit is again
    assert_same(again, calibration)


def test_round_trip_of_a_replaced_calibration(calibration, rng):
    held_out = {name: rng.uniform(size=3) for name in ("a", "b")}
    new = replace(
        calibration,
        held_out=held_out,
        groups=np.arange(3),
        parameters={"tol": 0.5},
        replaced=calibration,
    )
    plain, tensors = new.to_plain()
    parameters = [each.parameters for each in new.all]
    again = Calibration.from_plain(plain, dict(tensors), parameters, SHAPES)
    assert_same(again, new)
    assert_same(again.of_fit, calibration)
    tensors["replaced.more"] = torch.ones(1)
    with pytest.raises(ValueError, match="that are left"):
        Calibration.from_plain(plain, tensors, parameters, SHAPES)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("held_out.a"),
        lambda tensors: tensors.pop("learned.b.n"),
        lambda tensors: tensors.update({"held_out.b": torch.rand(4).double()}),
        lambda tensors: tensors.update({"held_out.a": torch.rand(0).double()}),
        lambda tensors: tensors.update({"held_out.a": torch.rand(5)}),
        lambda tensors: tensors["learned.b.scale"].fill_(float("nan")),
        lambda tensors: tensors.update({"learned.b.n": torch.rand(1).double()}),
        lambda tensors: tensors.update({"groups": torch.zeros(4).double()}),
        lambda tensors: tensors["groups"].add_(1),
        lambda tensors: tensors["groups"].mul_(-1),
        lambda tensors: tensors["groups"].mul_(0.5),
    ],
)
def test_what_does_not_fit_together(calibration, change):
    plain, tensors = calibration.to_plain()
    change(tensors)
    with pytest.raises((ValueError, KeyError)):
        Calibration.from_plain(plain, tensors, [{}], SHAPES)


def test_true_and_false_are_not_guessed(calibration):
    plain, tensors = calibration.to_plain()
    with pytest.raises(ValueError, match="true or false"):
        Calibration.from_plain(plain | {"is_held_out": "no"}, tensors, [{}], SHAPES)
    plain, tensors = calibration.to_plain()
    with pytest.raises(ValueError, match="replaced calibration"):
        Calibration.from_plain(plain, tensors, [{}, {}], SHAPES)


def test_weights(calibration):
    np.testing.assert_allclose(calibration.weights, [0.5, 0.5, 0.5, 1, 0.5])


@pytest.mark.parametrize("n_groups", [1, 2, 7, 10, 11, 300])
def test_folds(n_groups):
    """Each image is in one, with all images of its group."""
    groups = np.arange(3 * n_groups) % n_groups
    folds = folds_of(groups)
    assert len(folds) == min(10, n_groups)
    np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
    for is_in_fold in folds:
        own = {*groups[is_in_fold]}
        assert own
        assert not own & {*groups[~is_in_fold]}


def test_p_values_by_hand():
    """Each fold has scores of its own, and thirds add up to 1."""
    weights = np.array([1, 1 / 3, 1 / 3, 1 / 3, 1])
    folds = [
        (np.array([True, False, False, False, True]), [5.0, 1], [0.0, 1, 3, 9]),
        (np.array([False, True, True, True, False]), [3.0, 2, 4], [0.0, 3, 2, 9]),
    ]
    folds = [(mask, np.array(own), np.array(new)) for mask, own, new in folds]
    p = conformal_p_values(folds, weights)
    np.testing.assert_allclose(p, np.array([1, 2 + 2 / 3, 2 + 1 / 3, 4]) / 4, rtol=1e-8)
    assert p[3] == 1


@pytest.mark.parametrize(
    "n, share", [(10, 1 / 11), (19, 0.05), (25, 0.05), (50, 0.05), (400, 0.05)]
)
def test_false_alarms_among_unseen_images(rng, n, share):
    """5 % in the mean, or as few as n scores can tell, however few they are."""
    # Of uniform scores, the threshold is the share of unseen ones below it.
    weights = np.ones(n)
    found = [threshold_for_unseen(rng.uniform(size=n), weights) for _ in range(20_000)]
    assert abs(np.mean(found) - share) < 0.001


def test_false_alarms_among_images_of_new_groups(rng):
    """A group of many copies counts as one image."""
    sizes = rng.randint(1, 30, size=39)
    weights = np.repeat(1 / sizes, sizes)
    found = [
        threshold_for_unseen(np.repeat(rng.uniform(size=39), sizes), weights)
        for _ in range(20_000)
    ]
    assert abs(np.mean(found) - 0.05) < 0.002


def test_thresholds_of_maps(rng):
    maps = rng.gamma(1.0, size=(20, 30, 40)).astype(np.float32)
    quantiles = quantiles_of_maps(maps)
    assert quantiles.shape == PIXEL_SHARES.shape
    assert quantiles.dtype == torch.float64
    for rate in (0.5, 0.1, 0.01, 0.001, 0.0123):
        threshold = map_threshold_at(quantiles, rate)
        assert rate * 0.93 < np.mean(maps > threshold) <= rate
    for rate in (0.1, 0.01, 0.001):  # usual ones are kept exactly
        exactly = np.quantile(maps, 1 - rate, method="higher")
        assert map_threshold_at(quantiles, rate) == pytest.approx(exactly, rel=1e-4)
    assert map_threshold_at(quantiles, 1e-9) == maps.max()
