import os

# Before scikit-learn and SciPy are imported: scikit-learn's array API checks need it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sklearn_anogan import AnoGANDetector


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def digits():
    """Images (1797, 8, 8) with values 0 to 16, and their labels."""
    data = load_digits()
    return data.images, data.target


@pytest.fixture(scope="session")
def zeros(digits):
    """178 images of the digit 0."""
    images, labels = digits
    return images[labels == 0]


@pytest.fixture
def quick():
    """Parameters that make a detector fit and score within a second."""
    return {
        "latent_dim": 8,
        "n_filters": 8,
        "max_epochs": 3,
        "search_steps": 10,
        "random_state": 0,
    }


@pytest.fixture(scope="session")
def fitted(zeros):
    """A detector trained for a moment on zeros; not to be changed by a test."""
    detector = AnoGANDetector(
        latent_dim=8, n_filters=8, max_epochs=100, search_steps=20, random_state=0
    )
    return detector.fit(zeros)


@pytest.fixture
def rng():
    return np.random.RandomState(0)
