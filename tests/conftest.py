import os
from dataclasses import replace

# Before scikit-learn and SciPy are imported: scikit-learn's array API checks need it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import distributed
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._images import TrainingImages, check_images
from sklearn_anogan._networks import Discriminator, Generator
from sklearn_anogan._search._searcher import Searcher
from sklearn_anogan._training import TrainingSettings, train_gan
from sklearn_anogan._value_range import ValueRange


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def papers_score():
    """What a test of the paper's own loss and terms asks for."""
    return {"self_supervision": 0.0, "anomaly_score": "anogan"}


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
def quick(papers_score):
    """Parameters that make a detector fit and score within a second."""
    return {
        "latent_dim": 8,
        "n_filters": 8,
        "max_epochs": 3,
        "search_steps": 10,
        "random_state": 0,
        **papers_score,
    }


@pytest.fixture(scope="session")
def fitted(zeros, papers_score):
    """A detector trained for a moment on zeros; not to be changed by a test."""
    detector = AnoGANDetector(
        latent_dim=8,
        n_filters=8,
        max_epochs=100,
        search_steps=20,
        search_lr=0.05,
        random_state=0,
        **papers_score,
    )
    return detector.fit(zeros)


@pytest.fixture
def dataset(zeros):
    """The zeros as a data set for the training."""
    images = check_images(
        zeros, None, n_features=None, min_samples=2, estimator_name="Detector"
    )
    return TrainingImages(images, ValueRange.measure(images), "cpu")


#: Settings of a small GAN's training of two epochs.
BRIEFLY = TrainingSettings(
    generator=Generator,
    discriminator=Discriminator,
    latent_dim=6,
    latent_prior="uniform",
    n_filters=4,
    adversarial_loss="bce",
    ema_decay=0.0,
    self_supervision=0.0,
    max_epochs=2,
    batch_size=50,
    lr=2e-4,
    lr_schedule="constant",
    mixed_precision=False,
    callbacks=(),
    device="cpu",
)


@pytest.fixture
def brief_settings():
    return BRIEFLY


def train_briefly(dataset, *, seed=0, start=None, checkpoint=None, **changes):
    """Train a small GAN for two epochs, or with other settings."""
    settings = replace(BRIEFLY, **changes)
    return train_gan(dataset, settings, seed=seed, start=start, checkpoint=checkpoint)


@pytest.fixture
def train():
    return train_briefly


@pytest.fixture
def searched(monkeypatch):
    """Numbers of images in the latent searches so far, one number a search."""
    numbers, search = [], Searcher.search

    def counting(self, x):
        numbers.append(len(x))
        return search(self, x)

    monkeypatch.setattr(Searcher, "search", counting)
    return numbers


@pytest.fixture
def dask_cluster():
    """joblib's backend is a real cluster of two processes."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield


@pytest.fixture
def rng():
    return np.random.RandomState(0)
