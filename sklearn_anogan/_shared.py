# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What the detectors of this library have in common as estimators."""

from contextlib import contextmanager
from numbers import Real

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state, check_scalar

#: Share of held-out images that ``contamination="auto"`` leaves below the threshold.
AUTO_CONTAMINATION = 0.05

#: Images that are held out of the training to calibrate scores: a tenth of X, within
#: these bounds. Of fewer images than the last number, all of them train and calibrate.
LEAST_HELD_OUT, MOST_HELD_OUT, FEW_IMAGES = 10, 1000, 40


class ImageDetectorMixin(OutlierMixin):
    """What follows from `score_samples`, `offset_` and `anomaly_map`."""

    def decision_function(self, X):
        """Score images relative to the threshold: ``score_samples(X) - offset_``.

        Parameters
        ----------
        X : array-like of n images
            As `score_samples` takes them.

        Returns
        -------
        scores : ndarray of shape (n,), float64
            Negative for anomalies.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Tell normal images from anomalies.

        Parameters
        ----------
        X : array-like of n images
            As `score_samples` takes them.

        Returns
        -------
        labels : ndarray of shape (n,), int
            1 for normal images, -1 for anomalies.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def map_threshold(self, X, false_positive_rate=0.01):
        """Find the threshold that makes a mask of an anomaly map.

        Parameters
        ----------
        X : array-like of n images
            Normal images that `fit` has not seen: on those that it has, maps are
            smaller, and so would be the threshold.

        false_positive_rate : float in (0, 1), default=0.01
            Largest share of the pixels of X that lie above the threshold.

        Returns
        -------
        threshold : float
            In the units of the map: ``anomaly_map(X_new) > threshold`` is the mask.

        Raises
        ------
        ValueError, TypeError
            If `false_positive_rate` is no number between 0 and 1.
        """
        check_scalar(
            false_positive_rate,
            "false_positive_rate",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="neither",
        )
        values = np.concatenate([np.ravel(each) for each in self.anomaly_map(X)])
        level = 1 - false_positive_rate
        return float(np.quantile(values, level, method="higher"))


def hold_out(n):
    """Images to train on, and images to calibrate with; always the same ones."""
    if n < FEW_IMAGES:
        return np.arange(n), np.arange(n)
    n_held_out = int(np.clip(n // 10, LEAST_HELD_OUT, MOST_HELD_OUT))
    shuffled = np.random.RandomState(0).permutation(n)
    return np.sort(shuffled[n_held_out:]), np.sort(shuffled[:n_held_out])


def threshold(scores, contamination):
    """The score that this share of images does not reach.

    "auto" is for unseen images: a new one is as likely to fall between any two of the n
    scores, so that the k-th of them has an expected share of k / (n + 1) below it
    (Weibull 1939). A number is for the images themselves, as in scikit-learn.
    """
    if contamination == "auto":
        return float(np.quantile(scores, AUTO_CONTAMINATION, method="weibull"))
    return float(np.quantile(scores, contamination))


def own_random_state(random_state):
    """`check_random_state`, but None is not numpy's global state, which stays as is."""
    if random_state is None:
        return np.random.RandomState()
    return check_random_state(random_state)


@contextmanager
def unchanged_on_failure(estimator):
    """Put all attributes back when the block raises."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
