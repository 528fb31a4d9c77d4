# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Any outlier detector on the patches of large images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, islice
from math import ceil, prod
from numbers import Integral, Real
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import Bunch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import (
    check_is_fitted,
    has_fit_parameter,
    validate_data,
)
from tqdm import tqdm

from ._base import ImageDetectorMixin, own_random_state, unchanged_on_failure
from ._calibration import Calibration, quantiles_of_maps
from ._compat import checked_fit
from ._copies import share_near, tell_of_known
from ._cutting import StitchedMap, begins, draw_patches, pair, shrink, window_at
from ._detector import AnoGANDetector
from ._holding_out import MOST_HELD_OUT, check_groups, hold_out
from ._sources import (
    as_array,
    check_source,
    check_types,
    is_column_of_images,
    is_read_in_pieces,
    kind_of,
)
from ._types import Auto, FloatArray, ImagesLike, OutlierDetector, Seed
from ._units import (
    range_of,
    some_of,
    tell_of_units_of_images,
    units_are_known,
)
from ._warnings import warn_user

__all__ = ["PatchDetector"]

#: Longest side of a patch, for detectors that have maps and for other ones.
_WITH_MAPS, _WITHOUT_MAPS = 128, 32

#: Numbers in the patches that are scored at once.
_BLOCK_VALUES = 2**20

#: What to do with channels that come first.
_PUT_LAST = "If the channels come first, pass np.moveaxis(X, 1, -1)."

#: Pixels of the maps of held-out images that thresholds of maps are learned from.
_MOST_PIXELS = 2**24


class PatchDetector(ImageDetectorMixin, MetaEstimatorMixin, BaseEstimator):
    """Detect anomalies in large images with an outlier detector for their patches.

    `fit` draws patches at random places of normal images and fits a detector to them.
    A new image is cut into overlapping patches. Their maps are blended into one map of
    the size of the image, and the map makes up the image's score. This is how AnoGAN
    was applied to retinal scans [1]_. The maps of an :class:`AnoGANDetector` come from
    its ruler of places; its networks play no part here, and a short training is enough.

    Parameters
    ----------
    detector : outlier detector, default=None
        Any detector with `score_samples`. Patches are given to the detector as rows,
        flattened with the channels last. If the detector has a parameter
        ``image_shape`` that is None, the parameter is set to the shape of the patches.
        A parameter ``random_state`` that is None is drawn from the `random_state` given
        here. None stands for an :class:`AnoGANDetector`.

    patch_shape : int or tuple (height, width), default=None
        Size of a patch. With None, a detector with maps gets patches of 128 pixels, or
        of the size of the smallest image of `fit` if that is less. Images of at most
        this size are taken whole. Other detectors give one score for a patch and get
        patches of 32 pixels.

    stride : int or tuple (down, right), default=None
        Pixels from a scored patch to the next one, at most `patch_shape`. The last
        patch of a row or column ends at the edge of the image. None for half a patch.

    n_patches : int, default=10000
        Number of patches that the detector is fitted to. Every place in all the images
        is equally likely. If there are fewer places, each is taken once. `fit` holds
        all patches in memory.

    aggregation : {"max", "mean"} or float in (0, 1], default="max"
        How the map of an image makes up its score: "max" takes the most abnormal pixel,
        "mean" the mean of all pixels, and a number q the pixel that is more abnormal
        than a share q of the pixels.

    downsampling : int, default=1
        Patches are shrunk by this factor before the detector gets them: blocks of
        ``downsampling`` x ``downsampling`` pixels are replaced by their means. A patch
        then covers more of the image, and so more of a large defect, at the same cost.
        `patch_shape` and `stride` stay in pixels of the image; `patch_shape` must be a
        multiple of `downsampling`.

    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of the images of `fit` that lie beyond the threshold of `predict`; of
        more than 1000 images, a sample of 1000 is scored for this. "auto" takes the
        images as normal and allows for 5 % false alarms among unseen normal images.
        The threshold then comes from held-out images, from which no patches are drawn
        for training: as many as an :class:`AnoGANDetector` holds out. Fewer than 8
        images all serve for both.

    verbose : int, default=0
        With 1, scoring shows a progress bar. `detector` has a parameter of its own.

    random_state : int, RandomState instance or None, default=None
        Decides the places of the patches.

    Attributes
    ----------
    detector_ : estimator
        Fitted to the patches.

    patch_shape_ : tuple (height, width)
        Size of a patch; only for images.

    n_channels_ : int
        Number of channels; only for images.

    offset_ : float
        Threshold on the raw scores: ``decision_function = score_samples - offset_``.

    shift_p_value_ : float
        How likely scores as different as those of the images given to `calibrate` are,
        if the images come from the source of `fit`. NaN if `fit` held no images out.
        Only after `calibrate`.

    calibration_ : object
        Scores of the held-out images, and the parameters that they were scored with.

    n_features_in_ : int
        Numbers in a row; only for rows.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names, only for rows of a data frame with string names.

    See Also
    --------
    AnoGANDetector : For images of one shape whose defects can still be seen when the
        longer side is shrunk to 128 pixels.

    Notes
    -----
    X is one of:

    - an array or memory map (n, height, width) or (n, height, width, channels);
    - a tensor (n, channels, height, width) or (n, height, width);
    - a list of images without the n, which may have different sizes.

    All images have the same number of channels, and none is smaller than a patch.
    Patches are read block by block, so that memory does not grow with the images.

    A two-dimensional X holds rows of numbers. Rows have no patches and go to the
    detector as they are.

    References
    ----------
    .. [1] T. Schlegl, P. Seeböck, S. M. Waldstein, U. Schmidt-Erfurth, G. Langs,
       "Unsupervised anomaly detection with generative adversarial networks to guide
       marker discovery", IPMI 2017. :doi:`10.1007/978-3-319-59050-9_12`

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_anogan import PatchDetector
    >>> rng = np.random.RandomState(0)
    >>> images = [rng.normal(size=(40, 60)), rng.normal(size=(50, 50))]
    >>> detector = PatchDetector(
    ...     IsolationForest(), patch_shape=8, n_patches=500, random_state=0
    ... ).fit(images)
    >>> scratched = images[0].copy()
    >>> scratched[20, 10:30] += 10
    >>> detector.score_samples([scratched]) < detector.score_samples(images[:1])
    array([ True])
    >>> detector.anomaly_map([scratched])[0].shape
    (40, 60)
    """

    _search_parameters = ("patch_shape", "stride", "aggregation", "downsampling")

    _map_parameters = ("patch_shape", "stride", "downsampling")

    _threshold_parameters = ("patch_shape", "aggregation", "downsampling")

    _parameter_constraints = {  # noqa: RUF012 (scikit-learn's own form)
        "detector": [HasMethods(["fit", "score_samples"]), None],
        "patch_shape": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "stride": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "n_patches": [Interval(Integral, 2, None, closed="left")],
        "aggregation": [
            StrOptions({"max", "mean"}),
            Interval(Real, 0, 1, closed="right"),
        ],
        "downsampling": [Interval(Integral, 1, None, closed="left")],
        "contamination": [
            StrOptions({"auto"}),
            Interval(Real, 0, 0.5, closed="right"),
        ],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    detector_: Any
    patch_shape_: tuple[int, int]
    n_channels_: int

    def __init__(
        self,
        detector: OutlierDetector | None = None,
        patch_shape: int | Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        n_patches: int = 10000,
        aggregation: float | Literal["max", "mean"] = "max",
        *,
        downsampling: int = 1,
        contamination: float | Auto = "auto",
        verbose: int = 0,
        random_state: Seed = None,
    ) -> None:
        self.detector = detector
        self.patch_shape = patch_shape
        self.stride = stride
        self.n_patches = n_patches
        self.aggregation = aggregation
        self.downsampling = downsampling
        self.contamination = contamination
        self.verbose = verbose
        self.random_state = random_state

    @checked_fit(prefer_skip_nested_validation=False)
    def fit(
        self, X: ImagesLike, y: object = None, groups: ArrayLike | None = None
    ) -> Self:
        """Fit the detector to patches of normal images and set the threshold.

        A call that fails leaves everything as it was.

        Parameters
        ----------
        X : array-like or list of n images
            Normal images, in one of the forms of the Notes.

        y : Ignored
            Present for scikit-learn's conventions.

        groups : array-like of shape (n,), default=None
            A label for each image: the patient, part or video that the image shows.
            Images of one group are never on both sides of the split between training
            and held-out images, and a held-out group counts as one image. At least two
            groups. A detector whose `fit` takes `groups`, such as
            :class:`AnoGANDetector`, is told which patches are of one image or group in
            any case.

        Returns
        -------
        self : PatchDetector

        Raises
        ------
        ValueError, TypeError
            If X holds no images, images smaller than a patch, images of different
            numbers of channels, or NaN or infinity where a patch was drawn; if `groups`
            has not a label for each image, or only one label; if
            `patch_shape` or `stride` are no sizes, or there would be gaps between the
            patches. Errors of the detector are passed on.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.ensemble import IsolationForest
        >>> from sklearn_anogan import PatchDetector
        >>> images = np.random.RandomState(0).normal(size=(2, 40, 60))
        >>> detector = PatchDetector(IsolationForest(), patch_shape=8, n_patches=500)
        >>> detector.fit(images).detector_.n_features_in_  # a patch has 8 x 8 pixels
        64
        """
        with unchanged_on_failure(self):
            return self._fit(X, groups)

    def _fit(self, X, groups):
        rng = own_random_state(self.random_state)
        detector = AnoGANDetector() if self.detector is None else clone(self.detector)
        has_maps = hasattr(detector, "anomaly_map")
        images = self._check_images(X, reset=True, has_maps=has_maps)
        groups = check_groups(groups, len(images), least=2, name="PatchDetector.fit")
        training, held_out = hold_out(len(images), groups)
        of_patches = {"random_state": int(rng.randint(2**31 - 1))}
        if isinstance(images, _Images):
            self.n_channels_ = images.n_channels
            patch_shape, _ = self._sizes()
            small = tuple(side // self.downsampling for side in patch_shape)
            of_patches["image_shape"] = (*small, self.n_channels_)
            rows, numbers = draw_patches(
                images, training, patch_shape, self.downsampling, self.n_patches, rng
            )
        else:
            rows, numbers = images[training], training
        detector.set_params(
            **{
                name: of_patches[name.split("__")[-1]]
                for name, value in detector.get_params().items()
                if name.split("__")[-1] in of_patches and value is None
            }
        )
        # Patches of one image overlap: a detector has to hold out all or none of them.
        of_rows = numbers if groups is None else groups[numbers]
        is_told = has_fit_parameter(detector, "groups") and len(np.unique(of_rows)) > 1
        self.detector_ = detector.fit(rows, **({"groups": of_rows} if is_told else {}))
        if isinstance(images, _Images) and not hasattr(self.detector_, "model_"):
            self._range_of_patches = range_of(rows.reshape(-1, self.n_channels_))
        self._calibrate(images, held_out, groups, rng=rng)
        vars(self).pop("shift_p_value_", None)
        return self

    def _calibrate(self, images, held_out, groups=None, replaced=None, rng=None):
        """Score the held-out images, and set the threshold."""
        of_held_out = held_out if groups is None else groups[held_out]
        scores, learned = self._score_and_quantiles(images, held_out)
        self.calibration_ = Calibration(
            held_out={"score": scores},
            groups=np.unique(of_held_out, return_inverse=True)[1],
            has_groups=groups is not None,
            is_held_out=replaced is not None or len(held_out) < len(images),
            parameters=self._calibrated_parameters(),
            learned={"score": learned},
            replaced=replaced,
        )
        index = held_out
        if self.contamination != "auto":
            rng = own_random_state(self.random_state) if rng is None else rng
            index = rng.permutation(len(images))[:MOST_HELD_OUT]
            scores = self._scores_of(images, index)
        self._set_threshold(scores, index)

    def _score_and_quantiles(self, images, index):
        """Scores of the images at ``index``, and what is learned of their maps."""
        if not isinstance(images, _Images):
            return self._scores_of(images, index), {}
        step = ceil(sum(prod(images.size(i)) for i in index) / _MOST_PIXELS)
        scores, pixels = [], []
        for _, one in self._maps(images, index):
            scores.append(self._score_of(one))
            pixels.append(one.ravel()[::step].copy())
        quantiles = quantiles_of_maps(np.concatenate(pixels))
        return np.array(scores), {"map_quantiles": quantiles}

    def score_samples(self, X: ImagesLike) -> NDArray[np.float64]:
        """Score images by their maps, see `aggregation`; rows by the detector.

        Parameters
        ----------
        X : array-like or list of n images
            In one of the forms of the Notes.

        Returns
        -------
        scores : ndarray of shape (n,), float64
            Minus values of the map: the lower, the more abnormal.

        Raises
        ------
        NotFittedError
            If `fit` has not been called. Every method raises these errors.
        ValueError, TypeError
            If X holds no images, images smaller than a patch, images of another number
            of channels than in `fit`, or NaN or infinity.

        Warns
        -----
        UserWarning
            If the values of X look as if they had other units than those of `fit`. For
            this, every method that takes X looks at up to 8 images, or at the first one
            if X is not in memory.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.ensemble import IsolationForest
        >>> from sklearn_anogan import PatchDetector
        >>> images = np.random.RandomState(0).normal(size=(2, 40, 60))
        >>> detector = PatchDetector(
        ...     IsolationForest(), patch_shape=8, n_patches=500, random_state=0
        ... ).fit(images)
        >>> images[1, 20:30, 20:30] += 10
        >>> detector.score_samples(images).argsort()  # the most abnormal first
        array([1, 0])
        """
        check_is_fitted(self)
        self._validate_params()  # some may have been set since `fit`
        return self._scores_of(self._check_images(X, reset=False))

    @overload
    def anomaly_map(self, X: NDArray[Any] | torch.Tensor) -> FloatArray: ...
    @overload
    def anomaly_map(
        self, X: Sequence[NDArray[Any] | torch.Tensor]
    ) -> list[FloatArray]: ...
    @overload
    def anomaly_map(self, X: ImagesLike) -> FloatArray | list[FloatArray]: ...
    def anomaly_map(self, X: ImagesLike) -> FloatArray | list[FloatArray]:
        """Show where images are anomalous.

        The maps of overlapping patches are blended, with weights that fall off towards
        the edges of a patch. If the detector has no `anomaly_map`, the map of a patch
        is minus the score of the patch in every pixel.

        Parameters
        ----------
        X : array-like or list of n images
            In one of the forms of the Notes; rows only if the detector has maps.

        Returns
        -------
        maps : list of n ndarrays (height, width), or ndarray (n, height, width)
            An array if X is an array. In the units of the detector's maps or scores;
            the higher, the more abnormal.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.ensemble import IsolationForest
        >>> from sklearn_anogan import PatchDetector
        >>> images = np.random.RandomState(0).normal(size=(2, 40, 60))
        >>> detector = PatchDetector(
        ...     IsolationForest(), patch_shape=8, n_patches=500, random_state=0
        ... ).fit(images)
        >>> images[1, 20:30, 20:30] += 10
        >>> maps = detector.anomaly_map(images)
        >>> maps.shape, bool(maps[1, 20:30, 20:30].mean() > maps[1].mean())
        ((2, 40, 60), True)
        """
        check_is_fitted(self)
        self._validate_params()
        images = self._check_images(X, reset=False)
        if not isinstance(images, _Images):
            return self._ask("anomaly_map", images)
        maps = [one for _, one in self._maps(images, range(len(images)))]
        return maps if images.is_list else np.stack(maps)

    def explain(self, X: ImagesLike) -> Bunch:
        """Score and map images, processing each patch once.

        Parameters
        ----------
        X : array-like or list of n images
            In one of the forms of the Notes; rows only if the detector has maps.

        Returns
        -------
        explanation : Bunch
            ``scores``, ``p_values`` and ``maps``, as `score_samples`, `p_values` and
            `anomaly_map` answer. There are no p-values if a parameter of the patches
            has been set since `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.ensemble import IsolationForest
        >>> from sklearn_anogan import PatchDetector
        >>> images = np.random.RandomState(0).normal(size=(2, 40, 60))
        >>> detector = PatchDetector(
        ...     IsolationForest(), patch_shape=8, n_patches=500, random_state=0
        ... ).fit(images)
        >>> found = detector.explain(images)
        >>> found.scores.shape, found.maps.shape
        ((2,), (2, 40, 60))
        """
        check_is_fitted(self)
        self._validate_params()
        images = self._check_images(X, reset=False)
        if not isinstance(images, _Images):
            maps = self._ask("anomaly_map", images)
            scores = self._scores_of(images)
        else:
            with units_are_known():
                maps = self.anomaly_map(X)
            scores = np.array([*map(self._score_of, maps)])
        found = Bunch(scores=scores, maps=maps)
        if not self._changed(self._search_parameters):
            found["p_values"] = self._p_values(scores)
        return found

    def _maps_of(self, rows):
        if hasattr(self.detector_, "anomaly_map"):
            return np.asarray(self._ask("anomaly_map", rows))
        return -self._ask("score_samples", rows)[:, None, None]

    def _ask(self, method, rows):
        """What the detector answers, whose units have been checked already."""
        with units_are_known():
            return getattr(self.detector_, method)(rows)

    def _score_of(self, one):
        """The score of an image with this map."""
        if self.aggregation == "mean":
            return -float(np.mean(one, dtype=np.float64))
        if self.aggregation == "max":
            return -float(np.max(one))
        return -float(np.quantile(one, self.aggregation, method="higher"))

    def _maps(self, images, index):
        """Yield the images' numbers with their maps, one image after the other."""
        blocks = self._answers(images, index, self._maps_of)
        patches = (
            (place, patch_map)
            for places, patch_maps in blocks
            for place, patch_map in zip(places, patch_maps, strict=True)
        )
        for i, of_image in groupby(patches, lambda patch: patch[0][0]):
            stitched = StitchedMap(images.size(i), images.dtype, *self._sizes())
            for (_, *corner), patch_map in of_image:
                stitched.add(corner, patch_map, self.downsampling)
            yield i, stitched.blended()

    def _scores_of(self, images, index=None):
        """Scores of the images at ``index``; None for all."""
        index = np.arange(len(images)) if index is None else index
        if not isinstance(images, _Images):
            rows = images[index]
            return np.asarray(self._ask("score_samples", rows), dtype=np.float64)
        return np.array([self._score_of(one) for _, one in self._maps(images, index)])

    def _tell_of_known_images(self, groups):
        if not hasattr(self, "n_channels_"):
            return
        # The images are not kept, but the same image has the same score.
        of_fit, now = (
            each.held_out["score"]
            for each in (self.calibration_.of_fit, self.calibration_)
        )
        if len(np.unique(of_fit)) < len(of_fit):  # unless scores are few
            return
        first = np.unique(groups, return_index=True)[1] if groups is not None else ...
        share = share_near(now[first, None], 0)
        n_known = int(np.isin(now, of_fit).sum())
        # Images that were held out are as good as new ones, if they are alone.
        tell_of_known(len(now), n_known if n_known < len(now) else 0, share)

    def _held_out_scores(self):
        return self.calibration_.held_out["score"]

    def _measured(self, images):
        return self._scores_of(images)

    def _by_fold(self, scores):
        held_out = self._held_out_scores()
        yield np.full(len(held_out), True), held_out, scores

    def _map_quantiles(self):
        return self.calibration_.learned["score"].get("map_quantiles")

    def _answers(self, images, index, method):
        """Blocks of places (image, top, left), with the detector's answers for them."""
        patch_shape, stride = self._sizes()
        size = max(1, _BLOCK_VALUES // (np.prod(patch_shape) * images.n_channels))
        grids = [[*map(begins, images.size(i), patch_shape, stride)] for i in index]
        places = (
            (i, top, left)
            for i, (tops, lefts) in zip(index, grids, strict=True)
            for top in tops
            for left in lefts
        )
        n_places = sum(len(tops) * len(lefts) for tops, lefts in grids)
        with tqdm(
            total=n_places, unit=" patches", disable=not self.verbose
        ) as progress:
            while block := list(islice(places, size)):
                patches = np.stack(
                    [images[i][window_at(corner, patch_shape)] for i, *corner in block]
                )
                images.check_finite(patches, [i for i, *_ in block])
                patches = shrink(patches, self.downsampling)
                yield block, method(patches.reshape(len(block), -1))
                progress.update(len(block))

    def _choose_patch_shape(self, images, has_maps):
        if self.patch_shape is not None:
            return pair(self.patch_shape, "patch_shape")
        largest = _WITH_MAPS if has_maps else _WITHOUT_MAPS
        return tuple(
            max(1, min(largest, *sides) // self.downsampling) * self.downsampling
            for sides in zip(*images.sizes, strict=True)
        )

    def _sizes(self):
        """`patch_shape` and `stride` as pairs, checked."""
        given = self.patch_shape_ if self.patch_shape is None else self.patch_shape
        patch_shape = pair(given, "patch_shape")
        if any(side % self.downsampling for side in patch_shape):
            raise ValueError(
                f"patch_shape={given!r} is no multiple of downsampling="
                f"{self.downsampling!r}."
            )
        if self.stride is None:
            return patch_shape, tuple(max(1, side // 2) for side in patch_shape)
        stride = pair(self.stride, "stride")
        if any(step > side for step, side in zip(stride, patch_shape, strict=True)):
            raise ValueError(
                f"stride={self.stride!r} is larger than patch_shape="
                f"{given!r}: pixels between the patches would never be "
                "looked at. Use a stride of at most a patch."
            )
        return patch_shape, stride

    def _check_images(self, X, *, reset, has_maps=None):
        """Wrap X as images, or check it as rows; `reset` needs to know `has_maps`."""
        name = type(self).__name__
        check_source(X, name)
        X = list(X) if is_column_of_images(X) else X
        if _holds_images(X):
            images = _Images(X, name)
            if not reset and not hasattr(self, "n_channels_"):
                raise ValueError(f"{name} was fitted to rows, but X holds images.")
            if reset:
                self.patch_shape_ = self._choose_patch_shape(images, has_maps)
            images.check_sizes(self._sizes()[0])
            if reset and images.has_channels_first():
                height, width = images.size(0)
                warn_user(
                    f"Images of the shape {(height, width, images.n_channels)} are "
                    f"taken for (height, width, channels). {_PUT_LAST}"
                )
        else:
            if not reset and hasattr(self, "n_channels_"):
                raise ValueError(
                    f"{name} was fitted to images, but X holds rows of numbers. Give "
                    "it a list of images or an array (n, height, width[, channels])."
                )
            if reset:
                if self.patch_shape is not None:
                    raise ValueError(
                        f"X has two dimensions, which are rows of numbers, and rows "
                        f"have no patches of patch_shape={self.patch_shape!r}. If X is "
                        "a single image, pass X[None]; for rows, use patch_shape=None."
                    )
                for attribute in ("n_channels_", "patch_shape_"):
                    vars(self).pop(attribute, None)
            rows = validate_data(self, X, reset=reset, ensure_min_samples=1 + reset)
            if not reset and isinstance(self.detector_, AnoGANDetector):
                self.detector_._check_images(rows, reset=False)  # tells of units
            return rows
        if reset:
            for attribute in ("n_features_in_", "feature_names_in_"):
                vars(self).pop(attribute, None)
        elif images.n_channels != self.n_channels_:
            raise ValueError(
                f"X has images of {images.n_channels} channel(s), but {name} was "
                f"fitted to images of {self.n_channels_}."
            )
        else:
            # What is not in memory has been read up to the first image.
            is_in_memory = images.is_list or not is_read_in_pieces(X)
            some = some_of(len(images)) if is_in_memory else [0]
            tell_of_units_of_images(
                [torch.from_numpy(_channels(images[i])) for i in some],
                self._value_range(),
                images.patch_dtype == np.uint8,
            )
        return images

    def _value_range(self):
        """The `ValueRange` of the patches of `fit`."""
        model = vars(self.detector_).get("model_")
        return self._range_of_patches if model is None else model.value_range


def _channels(image):
    """Values (channels, n_pixels) of an image (height, width, channels)."""
    return np.array(image.reshape(-1, image.shape[2]).T, dtype=np.float64)


class _Images:
    """The user's images, of any sizes, each one an array (height, width, channels).

    Parameters
    ----------
    X : list, array or tensor of images
    name : str
        Of the estimator, for messages.
    """

    def __init__(self, X, name):
        self.is_list = isinstance(X, list | tuple) or not hasattr(X, "shape")
        self.X, self.name, self.latest = X, name, (None, None)
        self.n = len(X) if self.is_list else X.shape[0]
        if len(self) == 0:
            raise ValueError(f"Found array with 0 sample(s): {name} needs images.")
        dtypes, channels, kinds = set(), set(), {}
        self.sizes = []  # of all images, or of the first, which is like all
        for i in range(len(self)) if self.is_list else [0]:
            image = self[i]
            self.sizes.append(image.shape[:2])
            dtypes.add(image.dtype)
            channels.add(image.shape[2])
            kinds.setdefault(kind_of(image), i)
        check_types(kinds)
        if len(channels) > 1:
            raise ValueError(
                f"{name} needs images of the same number of channels, X has images of "
                f"{' and '.join(map(str, sorted(channels)))}."
            )
        self.dtype = np.result_type(np.float32, *dtypes)  # of maps
        self.patch_dtype = np.result_type(*dtypes)
        (self.n_channels,) = channels

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if self.latest[0] != i:  # patches of an image are read one after the other
            self.latest = i, self._read(i)
        return self.latest[1]

    def _read(self, i):
        image = self.X[int(i)]
        image = as_array(image, i, self.name)
        if image.ndim not in (2, 3) or 0 in image.shape:
            raise ValueError(
                f"Image {i} of X has the shape {image.shape}; {self.name} takes images "
                "(height, width) or (height, width, channels)."
            )
        if image.dtype.kind not in "buif":
            raise ValueError(
                f"Image {i} of X has values of type {image.dtype}; {self.name} needs "
                "real numbers."
            )
        return image[..., np.newaxis] if image.ndim == 2 else image

    def size(self, i):
        """Height and width of an image, which is not read for this."""
        return self.sizes[i if self.is_list else 0]

    def check_sizes(self, patch_shape):
        """Refuse images that are smaller than a patch."""
        for i, (height, width) in enumerate(self.sizes):
            if height < patch_shape[0] or width < patch_shape[1]:
                raise ValueError(
                    f"Image {i} of X has {height} x {width} pixels and is smaller than "
                    f"a patch of {patch_shape[0]} x {patch_shape[1]}. Use a smaller "
                    f"patch_shape, or pad the image.{self._hint(height, width)}"
                )

    def _hint(self, height, width):
        """What a side of 1, 3 or 4 pixels may mean."""
        if self.has_channels_first():
            return f" {_PUT_LAST}"
        if width in (1, 3, 4) and self.n_channels == 1 and not self.is_list:
            return " If X is a single image in colour, pass X[None]."
        return ""

    def has_channels_first(self):
        """Whether the first image looks as if its channels came first."""
        height, width = self.sizes[0]
        return height in (1, 3, 4) and min(width, self.n_channels) > 4

    def check_finite(self, patches, numbers):
        """Look for NaN and infinity in patches of the images of these numbers."""
        is_finite = np.isfinite(patches).all(axis=(1, 2, 3))
        if not is_finite.all():
            raise ValueError(
                f"In image {numbers[is_finite.argmin()]}: Input X contains NaN or "
                f"infinity. {self.name} needs finite values: replace them, or leave "
                "such images out."
            )


def _holds_images(X):
    """Whether X holds images, and not rows of numbers."""
    if isinstance(X, list | tuple):
        return not X or np.ndim(X[0]) > 1
    return len(X.shape) > 2 if hasattr(X, "shape") else is_read_in_pieces(X)
