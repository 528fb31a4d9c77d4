# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What the detectors of this library have in common as estimators."""

from contextlib import contextmanager
from numbers import Real
from operator import attrgetter

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from ._warnings import warn_user

#: Share of held-out images that ``contamination="auto"`` leaves below the threshold.
AUTO_CONTAMINATION = 0.05

#: Images that are held out of the training to calibrate scores: a tenth of X, within
#: the first two bounds. Fewer than FEW_IMAGES images all train and calibrate.
LEAST_HELD_OUT, MOST_HELD_OUT, FEW_IMAGES = 10, 1000, 40

#: Where the documentation is published.
DOCUMENTATION = "https://sklearn-anogan.readthedocs.io/en/latest"


class PartOfModel:
    """A fitted attribute that is a part of `model_`, and absent if that part is None.

    Parameters
    ----------
    name : str
        The part, with dots for a part of a part.
    """

    def __init__(self, name):
        self.get = attrgetter(name)

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, detector, owner=None):
        if detector is None:
            return self
        model = vars(detector).get("model_")
        value = None if model is None else self.get(model)
        if value is None:
            raise AttributeError(f"This {owner.__name__} has no {self.name}.")
        return value

    def __set__(self, detector, value):
        raise AttributeError(
            f"{self.name} is a part of what fit has learned and cannot be set. Fit "
            "again, for example with other network classes."
        )


class ImageDetectorMixin(OutlierMixin):
    """What follows from scores and maps.

    A detector provides `score_samples`, `anomaly_map` and `offset_`. Its `calibration_`
    is the `Calibration` of the last fit and holds every parameter of the two lists
    below. Its ``_held_out_scores()`` are the scores of the held-out images, each as if
    the image were new.
    """

    #: Parameters that decide how an image is searched. Scores of held-out images hold
    #: for the values that the parameters had in `fit`.
    _search_parameters = ()

    #: Parameters that decide what the score is made of. The threshold holds for the
    #: values that the parameters had in `fit`.
    _threshold_parameters = ()

    # For the links of scikit-learn's HTML representation.
    _doc_link_module = "sklearn_anogan"
    _doc_link_template = (
        f"{DOCUMENTATION}/api/{{estimator_module}}.{{estimator_name}}.html"
    )

    def __dir__(self):
        # Displays of fitted attributes ask for what is listed here.
        return [
            name
            for name in super().__dir__()
            if not isinstance(getattr(type(self), name, None), PartOfModel)
            or hasattr(self, name)
        ]

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
            If a parameter that decides what scores are made of has been set since
            `fit`: `anomaly_score`, `discrimination_weight` for the paper's score, or
            how patches are cut and aggregated.

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
        self._validate_params()  # some may have been set since `fit`
        for name in self._changed(self._threshold_parameters):
            raise ValueError(
                f"offset_ is a threshold for {name}="
                f"{self.calibration_.parameters[name]!r}, which has been set to "
                f"{getattr(self, name)!r} since. Fit again, or use score_samples."
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

        The conformal p-value [1]_ of an image: among the images held out of the
        training and the image itself, the share whose score is at most the image's.

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
            If `fit` got fewer than 40 images and held none out: then p is too low.

        Notes
        -----
        ``p_values(X) <= a`` marks an unseen normal image with a probability of at most
        a, in the mean over fits. A level a below 1 / (m + 1) marks none. After one fit,
        the share of normal images that is marked varies about a, with a standard
        deviation of sqrt(a (1 - a) / (m + 2)). All this holds for images from the same
        source as the images of `fit`. For the calibrated score of `AnoGANDetector` it
        holds nearly, because the same held-out images calibrate the score.

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
        self._validate_params()  # some may have been set since `fit`
        if changed := self._changed(self._search_parameters):
            raise ValueError(
                "p-values compare images with those searched in fit, but since then "
                f"{' and '.join(changed)} have been set. Fit again; with memory, that "
                "takes no training."
            )
        held_out = np.sort(self._held_out_scores())
        if not self.calibration_.is_held_out:
            warn_user(
                f"{type(self).__name__} was fitted to fewer than {FEW_IMAGES} images "
                "and trained on all of them. Unseen normal images look less normal, so "
                "that p-values are too low."
            )
        n_at_most = np.searchsorted(held_out, self.score_samples(X), side="right")
        return (1 + n_at_most) / (1 + len(held_out))

    def _calibrated_parameters(self):
        """The parameters that what is measured in `fit` holds for."""
        names = {*self._search_parameters, *self._threshold_parameters}
        return {name: getattr(self, name) for name in sorted(names)}

    def _changed(self, names):
        """Names of the parameters that have been set to another value since `fit`."""
        in_fit = self.calibration_.parameters
        return [
            name
            for name in names
            if not np.array_equal(getattr(self, name), in_fit[name])
        ]

    def map_threshold(self, X, false_positive_rate=0.01):
        """Find the threshold that makes a mask of an anomaly map.

        Parameters
        ----------
        X : array-like of n images
            Normal images that `fit` has not seen. The maps of training images are
            smaller, and the threshold would be too low.

        false_positive_rate : float in (0, 1), default=0.01
            Largest share of the pixels of X that lie above the threshold.

        Returns
        -------
        threshold : float
            In the units of the map. The mask is ``anomaly_map(X_new) > threshold``.

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
        >>> bool(mask[0, 3:6, 3:6].any())
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
    """Places of the images to train on, and of the images to calibrate with.

    They are always the same for a number of images.
    """
    if n < FEW_IMAGES:
        return np.arange(n), np.arange(n)
    n_held_out = int(np.clip(n // 10, LEAST_HELD_OUT, MOST_HELD_OUT))
    shuffled = np.random.RandomState(0).permutation(n)
    return np.sort(shuffled[n_held_out:]), np.sort(shuffled[:n_held_out])


def threshold(scores, contamination):
    """The score that a share ``contamination`` of the images lies below.

    A number is for the images themselves, as in scikit-learn. "auto" is for unseen
    images. The n sorted scores leave n + 1 gaps, and a new image falls into each gap
    with the same probability. So the k-th score has an expected share of k / (n + 1)
    of new images below it (Weibull 1939).
    """
    if contamination == "auto":
        return float(np.quantile(scores, AUTO_CONTAMINATION, method="weibull"))
    return float(np.quantile(scores, contamination))


def own_random_state(random_state):
    """`check_random_state`, but None is a new state and not numpy's global one."""
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
