# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What the detectors of this library have in common as estimators."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from numbers import Real
from operator import attrgetter
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import cramervonmises_2samp
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from ._calibration import (
    AUTO_CONTAMINATION,
    Calibration,
    conformal_p_values,
    map_threshold_at,
    threshold_for_unseen,
)
from ._holding_out import FEWEST, check_groups, n_needed
from ._types import Auto, ImagesLike
from ._warnings import warn_user

Part = TypeVar("Part")

#: Probability, for images from the source of `fit`, that `calibrate` tells of a shift.
_CHANCE_OF_SHIFT = 0.001

#: Interquartile ranges below the median, where the threshold is one of an image unlike
#: the rest.
_FAR = 30

#: Held-out images that false alarms of 5 % need.
_ENOUGH = round(1 / AUTO_CONTAMINATION) - 1

#: Where the documentation is published.
DOCUMENTATION = "https://sklearn-anogan.readthedocs.io/en/latest"


class PartOfModel(Generic[Part]):
    """A fitted attribute that is a part of `model_`, and absent if that part is None.

    Parameters
    ----------
    name : str
        The part, with dots for a part of a part.
    """

    def __init__(self, name: str) -> None:
        self.get = attrgetter(name)

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, detector: Any, owner: Any = None) -> Part:
        if detector is None:
            return self  # type: ignore[return-value]
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

    A detector provides `score_samples`, `anomaly_map` and `offset_`, and in its
    `calibration_`, the `Calibration` by the last fit or the last call of `calibrate`,
    which holds every parameter of the lists below. It also provides

    - ``_check_images(X, reset=False)``, X checked, with a length;
    - ``_scores_of(images)``, the scores of what that returns;
    - ``_calibrate(images, index, groups, replaced)``, which measures the images at
      ``index`` and sets `calibration_` and `offset_`;
    - ``_held_out_scores()``, scores of the held-out images, each as a new image of the
      same measurements would have;
    - ``_measured(images)``, what scores and p-values follow from;
    - ``_by_fold(measured)``, what `conformal_p_values` takes;
    - ``_tell_of_known_images(groups)``, which warns if `calibrate` was given images
      that `fit` has seen, or copies;
    - ``_map_quantiles()``, of the maps of held-out images, or None.
    """

    #: Parameters that decide how an image is searched. Scores of held-out images hold
    #: for the values that the parameters had in `fit`.
    _search_parameters: tuple[str, ...] = ()

    #: Parameters that decide what a map is like.
    _map_parameters: tuple[str, ...] = ()

    #: Parameters that decide what the score is made of. The threshold holds for the
    #: values that the parameters had in `fit`.
    _threshold_parameters: tuple[str, ...] = ()

    contamination: float | Auto
    calibration_: Calibration
    offset_: float
    shift_p_value_: float
    n_features_in_: int

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

    def decision_function(self, X: ImagesLike) -> NDArray[np.float64]:
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

    def predict(self, X: ImagesLike) -> NDArray[np.int_]:
        """Tell normal images from anomalies.

        Parameters
        ----------
        X : array-like of n images
            As `score_samples` takes them.

        Returns
        -------
        labels : ndarray of shape (n,), int
            1 for normal images, -1 for anomalies.

        Warns
        -----
        UserWarning
            If `contamination` is "auto", but fewer than 19 groups of images are held
            out, or fewer than 19 images or groups have been given to `calibrate`.

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
        is_anomaly = self.decision_function(X) < 0
        if self.contamination == "auto":
            self._tell_of_few()
        return np.where(is_anomaly, -1, 1)

    def p_values(self, X: ImagesLike) -> NDArray[np.float64]:
        """Tell how many normal images look at least as abnormal.

        The conformal p-value [1]_ of an image: among the held-out images and the image
        itself, the share that looks at least as abnormal as the image.

        Parameters
        ----------
        X : array-like of n images
            As `score_samples` takes them.

        Returns
        -------
        p : ndarray of shape (n,), float64
            In [1 / (m + 1), 1] with m images held out; the lower, the more abnormal.
            If `fit` or `calibrate` was given groups, m is the number of groups.

        Raises
        ------
        ValueError
            If parameters of the search, or of the patches, have been set since `fit`.

        Warns
        -----
        UserWarning
            If no p-value can be .05 or less, because m is below 19; if `fit` got fewer
            than 8 images and held none out, so that p is too low.

        Notes
        -----
        ``p_values(X) <= a`` marks an unseen normal image with a probability of at most
        a, in the mean over fits. A level a below 1 / (m + 1) marks none. After one fit,
        the share of normal images that is marked varies about a, with a standard
        deviation of sqrt(a (1 - a) / (m + 2)). All this holds for images from the same
        source as the images of `fit`, or of `calibrate`, and for images of new groups.

        Each held-out image is compared with the image by scores that this held-out
        image has not calibrated, the jackknife+ [2]_. For the paper's score, which
        needs no calibration, the probability is exact. For the calibrated score, the
        theorem bounds it by 2 a; measured, it is a. The images of a group share the
        weight of one image [3]_. If somebody looks at each marked image, a limit of
        the false alarms among the marked images says more than one among the normal
        images: ``scipy.stats.false_discovery_control(p) <= a``.

        References
        ----------
        .. [1] S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, "Testing for outliers
           with conformal p-values", 2023. :doi:`10.1214/22-AOS2244`
        .. [2] R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, "Predictive
           inference with the jackknife+", 2021. :doi:`10.1214/20-AOS1965`
        .. [3] R. Dunn, L. Wasserman, A. Ramdas, "Distribution-free prediction sets for
           two-layer hierarchical models", 2023. :doi:`10.1080/01621459.2022.2060112`

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> p = detector.fit(images[:60]).p_values(damaged)
        >>> bool(p[0] <= 0.1)  # more abnormal than almost all 19 images held out
        True
        """
        check_is_fitted(self)
        self._validate_params()  # some may have been set since `fit`
        self._check_unchanged(self._search_parameters, "P-values")
        known, name = self.calibration_, type(self).__name__
        if not known.is_held_out:
            warn_user(
                f"{name} was fitted to fewer than {FEWEST} images and trained on all "
                "of them. Unseen normal images look less normal, so that p-values are "
                "too low. Call calibrate with other normal images."
            )
        elif known.n_groups < _ENOUGH:
            m, what = known.n_groups, "groups" if known.has_groups else "images"
            warn_user(
                f"Number of {what} that are held out: {m}. So no p-value is below "
                f"1/{m + 1}, and p_values(X) <= 0.05 marks none. {name} needs "
                f"{_ENOUGH} held out for that: fit to at least {n_needed(_ENOUGH)} "
                f"{what}, or call calibrate with {_ENOUGH} other {what}."
            )
        images = self._check_images(X, reset=False)
        return self._p_values(self._measured(images))

    def _p_values(self, measured):
        return conformal_p_values(self._by_fold(measured), self.calibration_.weights)

    def calibrate(self, X: ImagesLike, groups: ArrayLike | None = None) -> Self:
        """Set threshold and p-values anew, by other normal images, without training.

        For a new camera, light, or batch of material: which scores are usual is learned
        from X alone, and the networks stay as they are.

        Parameters
        ----------
        X : array-like of n >= 8 images
            Normal images that `fit` has not seen, from the source of the images to be
            scored. All of them set the threshold and the p-values, and with an
            :class:`AnoGANDetector` the scales of scores and maps.

        groups : array-like of shape (n,), default=None
            Labels of the images' groups, as in `fit`.

        Returns
        -------
        self : detector

        Raises
        ------
        ValueError, TypeError
            If X cannot be scored or has fewer than 8 images, or if `groups` does not
            fit X.

        Warns
        -----
        UserWarning
            If scores of X differ from those of images held out in `fit` by more than
            chance, at a level of .001: see `shift_p_value_`. If 5 % of the images of X
            or more are images that `fit` has trained on, or half of them are
            near-copies of each other (of images only, not of rows; a
            :class:`PatchDetector` knows images only by their scores, and images of
            `fit` only by those that were held out). If the values of X look as if they
            had other units than those of `fit`.

        Notes
        -----
        The test of the shift is that of Anderson [1]_ for two samples. It compares the
        scores that X has by the calibration of `fit` with those of the images held out
        in `fit`. Of each group, the first image is taken. The result is kept as
        `shift_p_value_`.

        With a number as `contamination`, the threshold is the one that this share of X
        lies beyond. The maps of a :class:`PatchDetector` keep their scale, since they
        are those of the detector inside; its threshold and p-values are set anew.

        References
        ----------
        .. [1] T. W. Anderson, "On the distribution of the two-sample Cramér-von Mises
           criterion", 1962. :doi:`10.1214/aoms/1177704477`

        Examples
        --------
        >>> import warnings
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = np.random.RandomState(0).permutation(load_digits().images)
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> detector = detector.fit(images[:100])
        >>> dark = images / 3  # by another camera
        >>> before = detector.predict(dark[200:400]) == -1
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # "... look less normal ..."
        ...     detector = detector.calibrate(dark[100:200])
        >>> after = detector.predict(dark[200:400]) == -1
        >>> bool(before.mean() > 0.5), bool(after.mean() < 0.1)
        (True, True)
        >>> detector.shift_p_value_ < 0.001
        True
        """
        check_is_fitted(self)
        self._validate_params()  # some may have been set since `fit`
        images, name = self._check_images(X, reset=False), type(self).__name__
        if len(images) < FEWEST:
            raise ValueError(
                f"{name}.calibrate needs at least {FEWEST} images, X has {len(images)}."
            )
        groups = check_groups(groups, len(images), least=1, name=f"{name}.calibrate")
        of_fit = self.calibration_.of_fit
        as_fitted = copy.copy(self)
        as_fitted.__dict__.update(of_fit.parameters, calibration_=of_fit)
        before = _one_of_each(as_fitted._held_out_scores(), of_fit.groups)
        now = _one_of_each(as_fitted._scores_of(images), groups)
        with unchanged_on_failure(self):
            self._calibrate(images, np.arange(len(images)), groups, replaced=of_fit)
            self.shift_p_value_ = self._tell_of_shift(before, now)
            self._tell_of_known_images(groups)
        return self

    def _tell_of_shift(self, before, now):
        """The p-value of the test of a shift; NaN where there is nothing to test."""
        if not self.calibration_.of_fit.is_held_out or min(len(before), len(now)) < 2:
            return np.nan
        p = float(cramervonmises_2samp(now, before).pvalue)
        if p < _CHANCE_OF_SHIFT:
            direction = "less" if np.median(now) < np.median(before) else "more"
            warn_user(
                f"Images of X look {direction} normal than those held out in fit: the "
                f"median of their scores is {np.median(now):.3g}, and not "
                f"{np.median(before):.3g} (p = {p:.1g}). Thresholds and p-values are "
                "those of X now. If X has no new source, look for anomalies in it."
            )
        return p

    def _tell_of_few(self):
        """Warn if too few groups, or images of `calibrate`, have set the threshold.

        A `fit` to few images is silent, as those of scikit-learn's detectors are.
        """
        known, m = self.calibration_, self.calibration_.n_groups
        if (known.has_groups or known.replaced is not None) and m < _ENOUGH:
            what = "groups" if known.has_groups else "images"
            warn_user(
                f"Number of {what} that the threshold rests on: {m}. Expect false "
                f"alarms for about {1 / (m + 1):.1%} of other normal images. For "
                f"{AUTO_CONTAMINATION:.0%}, it takes {_ENOUGH} {what}."
            )

    def _set_threshold(self, scores, index):
        """Set `offset_` by the scores of the images at ``index`` of X.

        With "auto", these are the held-out images. Warn of a threshold that an image
        unlike the rest has set.
        """
        if self.contamination != "auto":
            self.offset_ = float(np.quantile(scores, self.contamination))
            return
        self.offset_ = threshold_for_unseen(scores, self.calibration_.weights)
        low, median, high = np.quantile(scores, [0.25, 0.5, 0.75])
        spread = max(high - low, 0.01 * abs(median))
        if median - self.offset_ > _FAR * spread:
            nearest = np.abs(scores - self.offset_).argmin()
            warn_user(
                f"The threshold, offset_ = {self.offset_:.4g}, lies far below the "
                f"scores of most images, whose median is {median:.4g}. Image "
                f"{index[nearest]} of X has set it. Look at that image. If it is an "
                "anomaly, leave it out. If it is not, X may have too few images of "
                "its kind, or too many copies of another one."
            )

    def _check_unchanged(self, names, what):
        """Refuse what held-out images tell, if they were measured otherwise."""
        if changed := self._changed(names):
            have = "have" if len(changed) > 1 else "has"
            raise ValueError(
                f"{what} depend on {' and '.join(changed)}, which {have} been set to "
                "another value since the held-out images were measured. Set it back, "
                "fit again, or call calibrate with other normal images."
            )

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

    def map_threshold(
        self, X: ImagesLike | None = None, false_positive_rate: float = 0.01
    ) -> float:
        """Find the threshold that makes a mask of an anomaly map.

        Parameters
        ----------
        X : array-like of n images, default=None
            Normal images that `fit` has not seen. The maps of training images are
            smaller, and the threshold would be too low. None stands for the images that
            were held out in `fit`, or the images given to `calibrate`.

        false_positive_rate : float in (0, 1), default=0.01
            Largest share of the pixels of normal images that lie above the threshold.
            The pixels of all images are counted together: a few images may have most of
            the pixels that are above.

        Returns
        -------
        threshold : float
            In the units of the map. The mask is ``anomaly_map(X_new) > threshold``.

        Raises
        ------
        ValueError, TypeError
            If `false_positive_rate` is no number between 0 and 1. Without X, if
            parameters that maps depend on have been set since `fit`, or if the held-out
            images have no maps.

        Warns
        -----
        UserWarning
            Without X, if `fit` got fewer than 8 images and held none out.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> images = load_digits().images
        >>> damaged = images[60:61].copy()
        >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> threshold = detector.fit(images[:60]).map_threshold()
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
        if X is None:
            return map_threshold_at(self._usual_maps(), false_positive_rate)
        if np.isscalar(X):
            raise TypeError(
                f"X has to be images, got {X!r}. For another share of pixels, call "
                f"map_threshold(false_positive_rate={X!r})."
            )
        values = np.concatenate([np.ravel(each) for each in self.anomaly_map(X)])
        level = 1 - false_positive_rate
        return float(np.quantile(values, level, method="higher"))

    def _usual_maps(self):
        """Quantiles of the maps of held-out images, if they hold."""
        check_is_fitted(self)
        name = type(self).__name__
        self._check_unchanged(self._map_parameters, "Maps")
        if (quantiles := self._map_quantiles()) is None:
            raise ValueError(
                f"{name} has measured no maps of held-out rows. Pass normal rows X."
            )
        if not self.calibration_.is_held_out:
            warn_user(
                f"{name} was fitted to fewer than {FEWEST} images and trained on all "
                "of them. Maps of unseen normal images are higher, so that the "
                "threshold is too low. Pass other normal images as X."
            )
        return quantiles


def _one_of_each(scores, groups):
    """The scores of the first image of each group; all if there are no groups."""
    if groups is None:
        return scores
    return scores[np.unique(groups, return_index=True)[1]]


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
