import numpy as np
import pytest

from sklearn_anogan._copies import share_of_copies
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
