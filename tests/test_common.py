"""scikit-learn's own checks, and those it keeps but does not run by itself."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
    parametrize_with_checks,
)

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan._networks import Generator

QUICK = {"latent_dim": 4, "n_filters": 4, "max_epochs": 3, "search_steps": 10}


class FlatImages(AnoGANDetector):
    """A detector for flattened images of one line, however many pixels it has.

    The checks bring data of many widths; a fixed `image_shape` would fit one of them.
    """

    def _check_images(self, X, *, reset):
        shape = X.shape if hasattr(X, "shape") else np.shape(np.asarray(X))
        if reset and len(shape) == 2:
            self.image_shape = (1, max(1, shape[1]))
        try:
            return super()._check_images(X, reset=reset)
        finally:
            self.image_shape = None


@parametrize_with_checks(
    [
        AnoGANDetector(**QUICK),
        AnoGANDetector(**QUICK, n_restarts=1, tol=0.01),
        FlatImages(**QUICK),
        PatchDetector(AnoGANDetector(**QUICK)),
        PatchDetector(IsolationForest(n_estimators=10)),
    ]
)
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        check_dataframe_column_names_consistency,
        check_inplace_ensure_writeable,
        check_param_validation,
    ],
)
@pytest.mark.parametrize(
    "estimator",
    [
        AnoGANDetector(**QUICK),
        FlatImages(**QUICK),
        PatchDetector(IsolationForest(n_estimators=10)),
    ],
)
def test_sklearn_checks_not_yielded(check, estimator):
    check(type(estimator).__name__, estimator)


def test_flat_images_are_images(rng):
    """The checks of flattened images do run the convolutional networks."""
    detector = FlatImages(**QUICK).fit(rng.uniform(size=(20, 5)))
    assert detector.image_shape_ == (1, 5)
    assert isinstance(detector.generator_, Generator)
