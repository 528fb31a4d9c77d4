# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What the detectors of this library have in common as estimators."""

import warnings
from contextlib import contextmanager
from numbers import Real

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

#: Share of held-out images that ``contamination="auto"`` leaves below the threshold.
AUTO_CONTAMINATION = 0.05

#: Images that are held out of the training to calibrate scores: a tenth of X, within
#: these bounds. Of fewer images than the last number, all of them train and calibrate.
LEAST_HELD_OUT, MOST_HELD_OUT, FEW_IMAGES = 10, 1000, 40


#: Where the documentation is published.
_DOCUMENTATION = "https://sklearn-anogan.readthedocs.io/en/latest"


class ImageDetectorMixin(OutlierMixin):
    """What follows from scores and maps.

    Of the detectors it needs `score_samples`, `offset_` and `anomaly_map`; for
    p-values, ``_held_out_scores()``, and ``_has_held_out``, whether those are scores of
    images that were not trained on. A detector whose scores depend on parameters that
    can be set after `fit` names them and calls ``_remember_parameters()`` in `fit`.
    """

    #: Those after a change of which held-out scores are no longer comparable.
    _search_parameters = ()

    #: Those after a change of which the threshold is no longer one.
    _threshold_parameters = ()

    # For the links of scikit-learn's HTML representation.
    _doc_link_module = "sklearn_anogan"
    _doc_link_template = (
        f"{_DOCUMENTATION}/api/{{estimator_module}}.{{estimator_name}}.html"
    )

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

        Raises
        ------
        ValueError
            If what scores are made of has been set to something else since `fit`:
            `anomaly_score`, or how patches are cut and aggregated.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> detector.fit(images[:60]).decision_function(damaged) < 0
        array([ True])
        """
        check_is_fitted(self)
        for name in self._changed(self._threshold_parameters):
            raise ValueError(
                f"offset_ is a threshold for {name}={self._fitted_with[name]!r}, which "
                f"has been set to {getattr(self, name)!r} since. Fit again, or use "
                "score_samples."
            )
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

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> detector.fit(images[:60]).predict(damaged)
        array([-1])
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X):
        """Tell how many normal images look at least as abnormal.

        The share of the images held out of the training, the image itself among them,
        whose score is at most its own: its conformal p-value [1]_.

        Parameters
        ----------
        X : array-like of n images
            As `score_samples` takes them.

        Returns
        -------
        p : ndarray of shape (n,), float64
            In [1 / (m + 1), 1] with m images held out; the lower, the more abnormal.

        Raises
        ------
        ValueError
            If parameters of the search, or of the patches, have been set since `fit`.

        Warns
        -----
        UserWarning
            If none were held out, as of fewer than 40: then p is too low.

        Notes
        -----
        ``p_values(X) <= a`` marks unseen normal images with a probability of at most
        a, in the mean over fits; a below 1 / (m + 1) marks none. After one fit, the
        share it marks varies about a with a standard deviation of sqrt(a (1 - a) /
        (m + 2)). That holds for images that come from where those of `fit` do, and for
        the calibrated score of `AnoGANDetector` nearly: the same held-out images
        calibrate it.

        References
        ----------
        .. [1] S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, "Testing for outliers
           with conformal p-values", 2023. :doi:`10.1214/22-AOS2244`

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> p = detector.fit(images[:60]).p_values(damaged)
        >>> float(p[0]) == 1 / 11  # more abnormal than all 10 images held out
        True
        """
        check_is_fitted(self)
        if changed := self._changed(self._search_parameters):
            raise ValueError(
                "p-values compare images with those searched in fit, but since then "
                f"{' and '.join(changed)} have been set. Fit again; with memory, that "
                "takes no training."
            )
        held_out = np.sort(self._held_out_scores())
        if not self._has_held_out:
            warnings.warn(
                f"{type(self).__name__} was fitted to fewer than {FEW_IMAGES} images, "
                "all of which it was trained on: unseen ones look less normal, and "
                "p-values are too low.",
                stacklevel=2,
            )
        n_at_most = np.searchsorted(held_out, self.score_samples(X), side="right")
        return (1 + n_at_most) / (1 + len(held_out))

    def _remember_parameters(self):
        names = {*self._search_parameters, *self._threshold_parameters}
        self._fitted_with = {name: getattr(self, name) for name in sorted(names)}

    def _changed(self, names):
        """Those of the parameters that have been set to something else since `fit`."""
        return [
            name
            for name in names
            if not np.array_equal(getattr(self, name), self._fitted_with[name])
        ]

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

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> threshold = detector.fit(images[:60]).map_threshold(images[61:160])
        >>> mask = detector.anomaly_map(damaged) > threshold
        >>> bool(mask[0, 3:6, 3:6].all())
        True
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
