import copy

import numpy as np
import pytest

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan._copies import compare, share_of_copies
from sklearn_anogan._holding_out import hold_out


def share(X):
    """The share by the split of a fit."""
    X = X.reshape(len(X), -1)
    training, held_out = hold_out(len(X))
    halves = np.array_split(X[training], 2)
    return share_of_copies(X[held_out], halves)


@pytest.mark.parametrize("n", [8, 20, 40, 91, 170])
@pytest.mark.parametrize("digit", [0, 1, 3, 8])
def test_clean_images(digits, digit, n):
    images, labels = digits
    assert share(images[labels == digit][:n]) < 0.2


@pytest.mark.parametrize("d", [1, 2, 5, 100])
def test_clean_images_of_few_dimensions(rng, d):
    """Neighbours are near there, but not nearer than the rest lets expect."""
    X = rng.uniform(size=(300, d)) @ rng.normal(size=(d, 100))
    assert share(X) < 0.5


@pytest.mark.parametrize("size, least", [(2, 0.5), (5, 0.9), (20, 0.9), (50, 0.9)])
@pytest.mark.parametrize("noise", [0, 1e-9, 0.5])
def test_near_copies(digits, rng, size, least, noise):
    images, labels = digits
    origins = images[labels == 3][: max(20, 180 // size)]
    X = np.repeat(origins, size, axis=0)
    X = rng.permutation(X + rng.normal(scale=noise, size=X.shape))
    assert share(X) >= least


def test_most_images_are_the_same(digits):
    images, _ = digits
    assert share(np.r_[np.repeat(images[:1], 90, axis=0), images[1:11]]) > 0.8


def test_images_that_are_all_alike():
    assert share(np.ones((40, 8, 8))) == 1


# Images of `calibrate`


@pytest.mark.parametrize("digit", [0, 1, 3, 8])
def test_clean_images_of_calibrate(digits, digit):
    images, labels = digits
    X = images[labels == digit].reshape(-1, 64)
    for new in (X[90:], X[90:] / 3, X[90:110], X[90:98]):
        n_known, share = compare(new, X[:60], X[60:90])
        assert n_known == 0
        assert share < 0.2


@pytest.mark.parametrize("noise", [0, 1e-9, 0.05, 0.5])
def test_known_images(digits, rng, noise):
    images, labels = digits
    X = images[labels == 3].reshape(-1, 64)
    again = X[:90] + rng.normal(scale=noise, size=(90, 64))
    n_known, _ = compare(again, X[:60], X[60:90])
    assert n_known == 90 if noise < 0.1 else 60 <= n_known <= 90
    if noise < 0.1:
        assert compare(np.r_[again[:7], X[90:]], X[:60], X[60:90])[0] == 7
        assert compare(again[60:], X[:60], X[60:90]) == (0, 0)


@pytest.mark.parametrize("noise", [0, 1e-9, 0.05])
def test_copies_of_an_image(digits, rng, noise):
    X = digits[0][:200].reshape(-1, 64)
    copies = np.repeat(X[150:151], 40, 0) + rng.normal(scale=noise, size=(40, 64))
    assert compare(copies, X[:70], X[70:100]) == (0, 1)
    assert compare(copies, X[:70], X[70:100], groups=np.zeros(40, dtype=int)) == (0, 0)
    n_known, share = compare(np.r_[copies[:10], X[100:150]], X[:70], X[70:100])
    assert n_known == 0
    assert 10 / 60 <= share < 0.3


def test_copies_of_several_images(digits, rng):
    X = digits[0][:300].reshape(-1, 64)
    copies = np.repeat(X[200:220], 4, 0) + rng.normal(scale=0.5, size=(80, 64))
    assert compare(copies, X[:150], X[150:200])[1] > 0.9


def test_fit_had_copies(digits):
    """Then new images may be copies too."""
    X = np.repeat(digits[0][:20].reshape(-1, 64), 5, axis=0)
    assert compare(X, X, X) == (0, 0)


@pytest.fixture(params=["whole", "patches"])
def calibrated(request, digits):
    """A function that calibrates a detector of 100 digits anew."""
    detector = AnoGANDetector(
        n_filters=4, max_epochs=1, n_candidates=16, search_steps=0, random_state=0
    )
    if request.param == "patches":
        detector = PatchDetector(detector, 8, n_patches=100, random_state=0)
    X = np.random.RandomState(0).permutation(digits[0])
    detector.fit(X[:100])
    return lambda *args: copy.deepcopy(detector).calibrate(*args), X


@pytest.mark.filterwarnings("ignore:Images of X look")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_calibrate_with_images_of_fit(calibrated):
    calibrate, X = calibrated
    with pytest.warns(UserWarning, match=r"(100|39) of 100 images of X are images of"):
        calibrate(X[:100])
    with pytest.warns(UserWarning, match="of 100 images of X are images of fit"):
        calibrate(np.r_[X[:30], X[200:270]])
    calibrate(X[200:300])
    calibrate(X[200:300] / 3)
    calibrate(np.r_[X[:1], X[200:240]])
    calibrate(X[hold_out(100)[1]])


@pytest.mark.filterwarnings("ignore:Images of X look")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_calibrate_with_copies(calibrated):
    calibrate, X = calibrated
    for copies in (np.repeat(X[150:151], 40, 0), np.repeat(X[150:160], 4, 0)):
        with pytest.warns(UserWarning, match="100% of the images of X are near-copies"):
            calibrate(copies)
    calibrate(copies, np.arange(40) // 4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("is_in_patches", [False, True])
def test_calibrate_with_rows_of_fit(rng, is_in_patches):
    """Rows have copies by chance, as where all columns are whole numbers."""
    detector = AnoGANDetector(n_filters=4, max_epochs=1, random_state=0)
    detector = PatchDetector(detector) if is_in_patches else detector
    X = rng.randint(0, 3, size=(100, 4))
    detector.fit(X[:50]).calibrate(X[20:])
