import warnings

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan.datasets import load_images

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Images of X look"),
]

QUICK = {
    "n_filters": 4,
    "max_epochs": 1,
    "n_candidates": 16,
    "search_steps": 0,
    "random_state": 0,
}
FAR, SLIVER = "Most values of X lie far outside", "differ by less than a hundredth"

#: From 8 bits to other units.
UNITS = {
    "8 bits": lambda X: X,
    "0 to 1": lambda X: X / 255,
    "-1 to 1": lambda X: X / 127.5 - 1,
    "16 bits": lambda X: X.astype(np.uint16) * 257,
}


@pytest.fixture(scope="module")
def images(digits):
    """Digits (200, 8, 8) of 8 bits."""
    X = np.random.RandomState(0).permutation(digits[0])[:200]
    return np.rint(X * 255 / 16).astype(np.uint8)


@pytest.fixture(scope="module")
def detectors(images):
    """Units -> a detector of images in these units; not to be changed by a test."""
    return {
        units: AnoGANDetector(**QUICK).fit(convert(images[:100]))
        for units, convert in UNITS.items()
    }


def told(ask, *args):
    """What is told of units, however often."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask(*args)
    messages = [str(warning.message) for warning in caught]
    return [each for each in messages if "If X has other units" in each]


@pytest.mark.parametrize("n", [1, 5, 100])
@pytest.mark.parametrize(
    "of_fit, of_x, message",
    [
        ("0 to 1", "8 bits", f"{FAR}.* 0 to 255, fit had 0 to 1.* pass X / 255"),
        ("0 to 1", "16 bits", f"{FAR}.* 0 to 65535, .* 0 to 1.* pass X / 65535"),
        ("-1 to 1", "8 bits", f"{FAR}.* 0 to 255, .* -1 to 1.* X / 127.5 - 1"),
        ("8 bits", "16 bits", f"{FAR}.* 0 to 65535, .* 0 to 255.* X / 257"),
        ("8 bits", "0 to 1", rf"{SLIVER}.* 0 to 1, .* 0 to 255.* X \* 255.0"),
        ("8 bits", "-1 to 1", rf"{SLIVER}.* -1 to 1, .*\(X \+ 1\) \* 127.5"),
        ("16 bits", "8 bits", rf"{SLIVER}.* 0 to 255, .* 65535.* X \* 257.0"),
        ("16 bits", "0 to 1", rf"{SLIVER}.* 0 to 1, .* X \* 65535.0"),
    ],
)
def test_other_units(detectors, images, of_fit, of_x, message, n):
    detector, X = detectors[of_fit], UNITS[of_x](images[100 : 100 + n])
    with pytest.warns(UserWarning, match=message):
        detector.score_samples(X)
    with pytest.warns(UserWarning, match=message):
        detector.score_samples(torch.tensor(X.astype(X.dtype.newbyteorder("="))))


@pytest.mark.parametrize("of_fit", UNITS)
def test_what_is_advised_helps(detectors, images, of_fit):
    """The expression in the message is Python."""
    X = images[100:]
    for of_x, convert in UNITS.items():
        if messages := told(detectors[of_fit].score_samples, convert(X)):
            (message,) = messages
            advice = message.partition("pass ")[2].rstrip(".")
            converted = eval(advice, {"X": convert(X)})
            np.testing.assert_allclose(converted, UNITS[of_fit](X), atol=1e-6)
            assert not told(detectors[of_fit].score_samples, converted)
        elif of_x != of_fit:  # scales that are too near to each other
            assert {of_x, of_fit} == {"0 to 1", "-1 to 1"}


@pytest.mark.parametrize(
    "method",
    [
        "score_samples",
        "decision_function",
        "predict",
        "p_values",
        "anomaly_map",
        "residual_map",
        "reconstruct",
        "invert",
        "score_terms",
        "explain",
        "map_threshold",
    ],
)
def test_every_method_tells_once(detectors, images, method):
    assert len(told(getattr(detectors["0 to 1"], method), images[100:130])) == 1


def test_calibrate_tells_once(images):
    detector = AnoGANDetector(**QUICK).fit(images[:100] / 255)
    assert len(told(detector.calibrate, images[100:150])) == 1


def test_units_without_a_name(detectors, images, digits):
    detector = AnoGANDetector(**QUICK).fit(images[:100] * (16 / 255))
    with pytest.warns(UserWarning, match="fit had 0 to 16, a factor of about 20. "):
        detector.score_samples(images[100:])


def test_flattened_images(images):
    rows = images.reshape(200, 64)
    detector = AnoGANDetector((8, 8), **QUICK).fit(rows[:100] / 255)
    assert len(told(detector.score_samples, rows[100:])) == 1
    assert not told(detector.score_samples, rows[100:] / 255)


def test_files(images, tmp_path):
    from PIL import Image

    for i, image in enumerate(images[:12]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    X = load_images(tmp_path, size=8)
    detector = AnoGANDetector(**QUICK).fit(images[:100] / 255)
    assert len(told(detector.predict, X)) == 1


def saturated(X):
    """Nearly all pixels as bright as the sensor can tell."""
    X = X.copy()
    X[:, 2:] = 255
    return X


@pytest.mark.parametrize("of_fit", UNITS)
@pytest.mark.parametrize(
    "change",
    [
        lambda X: X,
        lambda X: X[:1],
        lambda X: X // 3,
        lambda X: X // 50,
        lambda X: X // 200,
        lambda X: X * 0,
        lambda X: X[:1] * 0,
        lambda X: X * 0 + 255,
        lambda X: X[:1] * 0 + 255,
        lambda X: np.r_[X[:1] * 0 + 255, X],
        lambda X: 255 - X,
        saturated,
        lambda X: saturated(X[:1]),
        lambda X: np.random.RandomState(0).randint(0, 256, X.shape).astype(np.uint8),
        lambda X: np.random.RandomState(0).randint(0, 3, X.shape).astype(np.uint8),
        lambda X: np.random.RandomState(0).randint(240, 256, X.shape).astype(np.uint8),
    ],
)
def test_anomalies_are_no_other_units(detectors, images, of_fit, change):
    """Dark, black, white, saturated and noisy images, all or one of them."""
    X = UNITS[of_fit](change(images[100:]))
    assert not told(detectors[of_fit].score_samples, X)


def test_bright_images_of_low_contrast(digits):
    X = (100 + 3 * digits[0][:160]).astype(np.uint8)
    detector = AnoGANDetector(**QUICK).fit(X[:100])
    noise = np.random.RandomState(0).randint(240, 256, (40, 8, 8)).astype(np.uint8)
    for each in (X[100:], X[:1] * 0 + 255, noise, noise[:1], np.r_[X[100:], noise[:9]]):
        assert not told(detector.score_samples, each)


def test_a_saturated_image_beyond_a_narrow_range(digits):
    """All that the sensor can count lies far outside, and is possible in all units."""
    X = (10_000 + 200 * digits[0][:120]).astype(np.uint16)
    detector = AnoGANDetector(**QUICK).fit(X[:100])
    X[110, 2:] = 65535
    for each in (X[110:111], X[100:]):
        assert not told(detector.score_samples, each)


def test_odd_pixels_are_no_other_units(detectors, images):
    X = images[100:] / 255
    X[:, 3, 3] = 1e4
    assert not told(detectors["0 to 1"].score_samples, X)
    X[0] *= 255  # one image of many
    assert not told(detectors["0 to 1"].score_samples, X)


def test_noise_of_black_frames(detectors):
    rng = np.random.RandomState(0)
    for X in (rng.poisson(60, (30, 8, 8)), rng.randint(0, 400, (30, 8, 8))):
        assert not told(detectors["16 bits"].score_samples, X.astype(np.uint16))


@pytest.mark.filterwarnings(f"ignore:{FAR}")
def test_scores_are_those_without_a_warning(detectors, images):
    alone = [detectors["0 to 1"].score_samples(X[None]) for X in images[100:105]]
    together = detectors["0 to 1"].score_samples(images[100:105])
    np.testing.assert_array_equal(np.concatenate(alone), together)


# Rows


@pytest.fixture(scope="module")
def rows():
    rng = np.random.RandomState(0)
    return rng.normal(size=(200, 6)) * [1, 5, 20, 0.1, 3, 100] + [0, 9, 99, 1, 0, 999]


def test_rows_of_other_units(rows):
    scaler = StandardScaler().fit(rows)
    X = scaler.transform(rows)
    detector = AnoGANDetector(**QUICK).fit(X[:100])
    with pytest.warns(UserWarning, match=r"In 6 of 6 columns, most .* about (9|10)0\."):
        detector.score_samples(100 * X[100:])
    detector = AnoGANDetector(**QUICK).fit(rows[:100])
    with pytest.warns(UserWarning, match="In 6 of 6 columns, all .* about 1/1000"):
        detector.score_samples(rows[100:] / 1000)


def test_anomalous_rows_are_no_other_units(rows):
    X = (rows - rows.mean(0)) / rows.std(0)
    detector = AnoGANDetector(**QUICK).fit(X[:100])
    one_column = X[100:] + 1e6 * np.eye(6)[2]
    one_row = np.r_[X[100:], 1e6 * X[:1]]
    missing = np.full((50, 6), -9999.0)
    for each in (X, X + 8, one_column, one_row, 1e3 * X[:1], missing, missing[:1]):
        assert not told(detector.score_samples, each)
    assert not told(detector.score_samples, np.repeat(X[:1], 30, axis=0))


def test_most_rows_of_long_tails_are_in_a_sliver():
    """The range is that of the longest rows, and new rows may have none of these."""
    X = np.random.RandomState(0).standard_t(1, size=(400, 5)) * 10
    detector = AnoGANDetector(**QUICK).fit(X)
    usual = X[np.abs(X).max(1) < np.ptp(X, 0).min() / 200]
    assert len(usual) > 10
    assert not told(detector.score_samples, usual)


# Patches


@pytest.fixture(scope="module")
def large():
    rng = np.random.RandomState(0)
    X = rng.uniform(0, 256, size=(12, 40, 30)).cumsum(2) / np.arange(1, 31)
    return X.astype(np.uint8)


@pytest.fixture(
    scope="module",
    params=[
        AnoGANDetector(**QUICK),
        IsolationForest(n_estimators=5, random_state=0),
        make_pipeline(StandardScaler(), AnoGANDetector((16, 16), **QUICK)),
    ],
    ids=["AnoGAN", "forest", "pipeline"],
)
def patches(request, large):
    detector = PatchDetector(request.param, 16, n_patches=60, random_state=0)
    return detector.fit(large / 255)


@pytest.mark.parametrize(
    "method",
    ["score_samples", "predict", "p_values", "anomaly_map", "explain", "map_threshold"],
)
def test_patches_of_other_units(patches, large, method):
    (message,) = told(getattr(patches, method), large)
    assert FAR in message
    assert "pass X / 255" in message


def test_patches_of_images_of_all_sizes(patches, large):
    X = [large[0], large[1][:20], large[2][:, :25]]
    assert len(told(patches.score_samples, X)) == 1
    assert not told(patches.score_samples, [image / 255 for image in X])


def test_dark_patches_are_no_other_units(patches, large):
    X = large / 255
    X[0], X[1, :20] = 0, 0
    for each in (X, X[:2], X * 0, X / 3):
        assert not told(patches.predict, each)


def test_rows_of_patches(rows):
    X = (rows - rows.mean(0)) / rows.std(0)
    detector = PatchDetector(AnoGANDetector(**QUICK)).fit(X[:100])
    for method in ("score_samples", "explain", "anomaly_map"):
        assert len(told(getattr(detector, method), 100 * X[100:])) == 1
        assert not told(getattr(detector, method), X[100:])
