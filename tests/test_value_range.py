import numpy as np
import pytest
import torch

from sklearn_anogan import AnoGANDetector, _detector, _value_range
from sklearn_anogan._holding_out import hold_out
from sklearn_anogan._images import check_images
from sklearn_anogan._value_range import ValueRange


def check(X, image_shape=None):
    return check_images(
        X, image_shape, n_features=None, min_samples=1, estimator_name="Detector"
    )


def ends(value_range):
    """The ends of the range of each channel."""
    return torch.cat([value_range.low, value_range.high], 1)[:, :, 0].tolist()


def test_range_of_uint8():
    """uint8 means 0 to 255, whatever part of it the images use."""
    for X in (np.uint8([[[30, 130]]]), torch.tensor([[[3, 250]]], dtype=torch.uint8)):
        images = check(X)
        value_range = ValueRange.measure(images)
        ends = torch.tensor([[[[0.0, 127.5, 255]]]], dtype=torch.float64)
        scaled = value_range.to_network(ends, "cpu")
        np.testing.assert_array_equal(scaled.ravel(), [-1, 0, 1])


def test_range_of_uint8_rows_is_learned():
    """Features that are counts or flags need not fill a byte."""
    images = check(np.uint8([[0, 3], [1, 7]]))
    scaled = ValueRange.measure(images).to_network(images.read([0, 1]), "cpu")
    np.testing.assert_array_equal(scaled[:, :, 0, 0], [[-1, -1], [1, 1]])


def test_range_of_floats_is_that_of_each_channel():
    X = np.stack([[[0.0, 10]], [[5.0, 30]]])[:, np.newaxis]  # (2, 1, 1, 2)
    images = check(X)
    value_range = ValueRange.measure(images)
    x = value_range.to_network(images.read(slice(None)), "cpu")
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(x[:, :, 0, 0], [[-1, -1], [1, 1]])
    np.testing.assert_allclose(value_range.to_user(x), images.read(slice(None)))


def test_range_of_a_constant_channel():
    X = np.array([[[[0.0, 7.0]]], [[[1.0, 7.0]]]])
    images = check(X)
    value_range = ValueRange.measure(images)
    x = value_range.to_network(images.read(slice(None)), "cpu")
    np.testing.assert_array_equal(x[:, 1], 0)
    np.testing.assert_array_equal(value_range.to_user(x), images.read(slice(None)))


@pytest.mark.parametrize("X", [np.full((5, 3, 4), 2.5), np.zeros((5, 8, 8), np.uint8)])
def test_constant_images(X):
    with pytest.raises(ValueError, match="constant and equal"):
        ValueRange.measure(check(X))


def test_values_outside_the_range_are_not_clipped():
    value_range = ValueRange.measure(check(np.array([[0.0], [2.0]])))
    x = value_range.to_network(torch.tensor([[[[1e6 + 1]]]], dtype=float), "cpu")
    assert x == 1e6


def test_values_too_large_for_float32():
    value_range = ValueRange.measure(check(np.array([[0.0], [2.0]])))
    with pytest.raises(ValueError, match=r"0 to 2: the largest is 1e\+40"):
        value_range.to_network(torch.tensor([[[[-1e40]]]], dtype=float), "cpu")


@pytest.mark.parametrize("ends", [(-1.7e308, 1.7e308), (1.6e308, 1.7e308)])
def test_range_of_huge_values(ends):
    """Neither the width of the range nor the sum of its ends overflows."""
    images = check(np.array(ends)[:, np.newaxis])
    x = ValueRange.measure(images).to_network(images.read(slice(None)), "cpu")
    np.testing.assert_array_equal(x.ravel(), [-1, 1])


def test_small_differences_on_a_large_offset_survive():
    """Values are scaled in float64: float32 could not tell 1e9 from 1e9 + 1."""
    images = check(1e9 + np.array([[0.0], [1.0], [2.0]]))
    x = ValueRange.measure(images).to_network(images.read(slice(None)), "cpu")
    np.testing.assert_array_equal(x.ravel(), [-1, 0, 1])


def with_value(X, value, index=(7, 3, 3)):
    X = np.array(X, dtype=np.result_type(X, np.min_scalar_type(value)))
    X[index] = value
    return X


@pytest.mark.parametrize(
    "value, name",
    [
        (1000.0, "1000"),
        (1e15, "1e[+]15"),
        (-1000.0, "-1000"),
        (np.int16(-32768), "-32768"),
        (np.uint16(65535), "65535"),
    ],
)
def test_a_single_pixel_does_not_set_the_range(zeros, value, name):
    """Of any type, and above or below all others."""
    X = zeros if isinstance(value, float) else zeros.astype(np.int16)
    X = with_value(X if value < 1e4 or value > 1e5 else X.astype(np.uint16), value)
    with pytest.warns(
        UserWarning, match=f"Image 7 of X has the value {name}, .* 0 and"
    ):
        assert ends(ValueRange.measure(check(X))) == [[0, 16]]


@pytest.mark.parametrize(
    "change",
    [
        lambda X: torch.tensor(np.moveaxis(X, -1, 1)),
        lambda X: X.reshape(len(X), -1),
        lambda X: list(X),
        np.asfortranarray,
    ],
)
def test_a_single_pixel_in_one_channel(zeros, change):
    """The ranges of other channels stay as they are, in any layout."""
    X = with_value(np.stack([zeros, 2 * zeros, -zeros], -1), 1e4, (20, 0, 0, 1))
    with pytest.warns(UserWarning, match="Image 20 of X has the value 10000"):
        value_range = ValueRange.measure(check(change(X), (8, 8, 3)))
    assert ends(value_range) == [[0, 16], [0, 32], [-16, 0]]


def test_several_odd_pixels(zeros):
    """Of both signs, and in several images."""
    X = with_value(with_value(zeros, -5000, 3), 900, (5, 0, 0))
    X[3, 1:] = 8
    with pytest.warns(UserWarning, match="Image 3 of X has the value -5000"):
        assert ends(ValueRange.measure(check(X))) == [[0, 16]]


def test_odd_pixels_among_many_images(zeros, monkeypatch):
    """Of many values, only some are looked at."""
    monkeypatch.setattr(_value_range, "_N_SAMPLED", 2000)
    with pytest.warns(UserWarning, match="Image 7 of X has the value 1000"):
        assert ends(ValueRange.measure(check(with_value(zeros, 1000)))) == [[0, 16]]


def test_a_pixel_that_is_not_far_away(zeros):
    """Clean images may have a brightest one."""
    assert ends(ValueRange.measure(check(with_value(zeros, 50)))) == [[0, 50]]


@pytest.mark.parametrize("value", [1e30, -3.4028235e38, 9.96921e36])
def test_a_value_that_leaves_float32_no_room(zeros, value):
    """Formats of files have such values for missing pixels."""
    with pytest.raises(
        ValueError, match=r"Image 7 of X has .* float32 cannot hold both"
    ):
        ValueRange.measure(check(with_value(zeros, value)))


def test_odd_pixels_of_all_kinds(zeros, rng):
    """As many as three in a thousand, each with a value of its own."""
    X = zeros.copy()
    X[:20, 4, 4] = rng.uniform(500, 2000, size=20)
    with pytest.warns(UserWarning, match="nearly all values lie between 0 and 16"):
        assert ends(ValueRange.measure(check(X))) == [[0, 16]]


@pytest.mark.parametrize("n", [8, 178])
def test_an_image_of_another_scale(zeros, n):
    X = zeros[:n].copy()
    X[5] *= 1000
    with pytest.warns(UserWarning, match="Image 5 of X has the value 16000"):
        assert ends(ValueRange.measure(check(X))) == [[0, 16]]


@pytest.mark.parametrize(
    "values", [[1000], [-32768], [-200], [-9999, -9998], [-9999, 65535]]
)
def test_values_far_from_all_others(zeros, values):
    """As at places without data, or a pixel of the sensor that is broken."""
    X = np.array(zeros)
    X[:, 0, :2] = values
    named = " or ".join(map(str, values))
    message = f"3.1% of .* X are {named}, .* 0 and 16, .*X > 16., 0, X"
    with pytest.warns(UserWarning, match=message):
        assert ends(ValueRange.measure(check(X))) == [
            [min(0, *values), max(16, *values)]
        ]


@pytest.mark.parametrize("high", [1, 9, 16])
def test_few_levels_of_uint8(zeros, high):
    X = np.rint(zeros * high / 16).astype(np.uint8)
    with pytest.warns(
        UserWarning, match=f"uint8, but its values lie between 0 and {high}:"
    ):
        assert ends(ValueRange.measure(check(X))) == [[0, high]]


def test_few_levels_of_uint8_and_a_single_pixel(zeros):
    X = with_value(zeros.astype(np.uint8), np.uint8(255))
    with (
        pytest.warns(UserWarning, match="uint8, but its values lie between 0 and 16"),
        pytest.warns(UserWarning, match="Image 7 of X has the value 255"),
    ):
        assert ends(ValueRange.measure(check(X))) == [[0, 16]]


def test_images_of_low_contrast(zeros):
    """Some dozens of levels are usual, and have a range of their own."""
    X = (100 + 3 * zeros).astype(np.uint8)
    assert ends(ValueRange.measure(check(X))) == [[100, 148]]


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: rng.rand(30, 8, 8) < 0.5,
        lambda rng: (rng.rand(30, 8, 8) < 0.02) * 1.0,
        lambda rng: (rng.rand(30, 8, 8) < 1e-3) * 1.0,
        lambda rng: (rng.rand(30, 8, 8) < 0.5) * rng.randint(200, 256, (30, 8, 8)),
        lambda rng: rng.standard_exponential((30, 8, 8)),
        lambda rng: rng.lognormal(size=(300, 8, 8)),
        lambda rng: rng.standard_t(4, size=(300, 8, 8)),
        lambda rng: rng.randn(2, 1, 1),
        lambda rng: rng.rand(30, 8, 8, 2) * [0, 1],
        lambda rng: rng.randint(40, 200, (30, 8, 8), dtype=np.uint8),
        lambda rng: np.r_[rng.rand(29, 8, 8), 3 * rng.rand(1, 8, 8)],
        lambda rng: np.array([[[0.0, 1, 10]]]),
        lambda rng: rng.rand(30, 8) * 10.0 ** np.arange(8),  # rows
    ],
)
def test_clean_images_are_silent(rng, make):
    X = make(rng)
    value_range = ValueRange.measure(check(X))
    if X.dtype != np.uint8:
        assert value_range.low.min() == X.min()
        assert value_range.high.max() == X.max()


def test_training_clips_what_scores_do_not(zeros, quick):
    """The odd image stays the most abnormal one, whatever the training has seen."""
    odd = int(hold_out(60)[0][0])  # one that is trained on
    X = with_value(zeros[:60], 1000, (odd, 3, 3))
    with pytest.warns(UserWarning, match=f"Image {odd} of X has the value 1000"):
        detector = AnoGANDetector(**quick).fit(X)
    assert detector.score_samples(X).argmin() == odd
    clipped = X.clip(0, 16)
    same = AnoGANDetector(**quick).fit(clipped)
    np.testing.assert_array_equal(
        detector.score_samples(clipped), same.score_samples(clipped)
    )


def test_images_of_a_warm_start_have_limits_of_their_own(zeros, quick, monkeypatch):
    """Brighter images than those of the first fit are not clipped to its range."""
    detector = AnoGANDetector(**quick, warm_start=True).fit(zeros[:60])
    limits = []

    def learn(images, value_range, index):
        limits.extend([ends(images.limits), ends(value_range)])

    monkeypatch.setattr(_detector, "learn_ruler", learn)
    detector.fit(2 * zeros[:60])
    assert limits == [[[0, 32]], [[0, 16]]]
