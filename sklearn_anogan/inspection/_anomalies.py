# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Displays of what a detector finds. Only drawing imports matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._optional_dependencies import check_matplotlib_support

from .._types import ImagesLike, Numbers, OutlierDetector, Pictures
from ._drawing import axes_grid, draw_picture, shared_limits, to_pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.container import BarContainer
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

    from .._detector import AnoGANDetector
    from .._patches import PatchDetector


class AnomalyMapDisplay:
    """Images, their nearest normal images, and maps of their anomalies.

    Use `from_estimator` or `from_predictions` to make a display.

    Parameters
    ----------
    images : list of n arrays (height, width) or (height, width, channels)
        Images that the maps belong to.

    maps : list of n arrays (height, width)
        How anomalous each pixel is.

    reconstructions : list of n arrays shaped like `images`, default=None
        The nearest normal image for each of `images`.

    masks : list of n arrays (height, width) or None, default=None
        True where an image is known to be anomalous; None for an image without a mask.

    scores : array of shape (n,), default=None
        Scores to write above the images.

    Attributes
    ----------
    figure_ : matplotlib Figure

    axes_ : ndarray of matplotlib Axes, of shape (2 or 3, n)
        Rows for the images, the nearest normal images (if given), and the maps.

    images_, maps_ : lists of n matplotlib AxesImages
        The images of the first row, and the maps.

    contours_ : list of matplotlib QuadContourSets
        Contours of the masks that are not empty.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.inspection import AnomalyMapDisplay
    >>> images = load_digits().images[:60]
    >>> detector = AnoGANDetector(max_epochs=2, random_state=0).fit(images)
    >>> display = AnomalyMapDisplay.from_estimator(detector, images[:4])
    >>> display.axes_.shape
    (3, 4)
    """

    figure_: Figure
    axes_: NDArray[np.object_]
    images_: list[AxesImage]
    maps_: list[AxesImage]
    contours_: list[QuadContourSet]

    def __init__(
        self,
        images: Pictures,
        maps: Pictures,
        *,
        reconstructions: Pictures | None = None,
        masks: Pictures | Sequence[NDArray[Any] | None] | None = None,
        scores: Numbers | None = None,
    ) -> None:
        self.images = images
        self.maps = maps
        self.reconstructions = reconstructions
        self.masks = masks
        self.scores = scores

    @classmethod
    def from_estimator(
        cls,
        detector: AnoGANDetector | PatchDetector,
        X: ImagesLike,
        *,
        masks: ImagesLike | Sequence[ArrayLike | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Find the nearest normal images and draw the maps.

        Parameters
        ----------
        detector : AnoGANDetector or PatchDetector
            A detector fitted to images.

        X : array-like, tensor or list of n images
            Images in any layout that `detector` takes, but not flattened.

        masks : array-like of shape (n, height, width) or list, default=None
            True where an image is known to be anomalous. Drawn as contours. In a list,
            None stands for an image without a mask.

        **kwargs
            Arguments of `plot`.

        Returns
        -------
        display : AnomalyMapDisplay

        Raises
        ------
        TypeError
            If the detector has no maps.
        ValueError
            If a mask has another size than its image.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> from sklearn_anogan.inspection import AnomalyMapDisplay
        >>> images = load_digits().images
        >>> X = images[60:63].copy()
        >>> X[0, 3:6, 3:6] = 50  # brighter than any digit
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> detector = detector.fit(images[:60])
        >>> display = AnomalyMapDisplay.from_estimator(detector, X, masks=X > 16)
        >>> len(display.contours_)
        1
        """
        if not hasattr(detector, "explain"):
            raise TypeError(
                f"A {type(detector).__name__} has no maps. Use an AnoGANDetector, a "
                "PatchDetector of any detector, or from_predictions with maps of yours."
            )
        found = detector.explain(X)
        return cls.from_predictions(
            X,
            found.maps,
            reconstructions=found.get("reconstructions"),
            masks=masks,
            scores=found.scores,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        images: ImagesLike,
        maps: ImagesLike,
        *,
        reconstructions: ImagesLike | None = None,
        masks: ImagesLike | Sequence[ArrayLike | None] | None = None,
        scores: Numbers | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw given maps.

        Parameters
        ----------
        images : array-like, tensor or list of n images
            Images that the maps belong to, in any layout, but not flattened.

        maps : array-like, tensor or list of n arrays (height, width)
            How anomalous each pixel is.

        reconstructions : array-like, tensor or list of n images, default=None
            The nearest normal images, shaped like `images`.

        masks : array-like of shape (n, height, width) or list, default=None
            True where an image is known to be anomalous. Drawn as contours. In a list,
            None stands for an image without a mask.

        scores : array-like of shape (n,), default=None
            Scores to write above the images.

        **kwargs
            Arguments of `plot`.

        Returns
        -------
        display : AnomalyMapDisplay

        Raises
        ------
        ValueError
            If a map or a mask has another size than its image.

        Examples
        --------
        >>> from sklearn_anogan.datasets import make_retina
        >>> from sklearn_anogan.inspection import AnomalyMapDisplay
        >>> retina = make_retina(6, (32, 48), anomalous=0.5, random_state=0)
        >>> maps = abs(retina.images - retina.images[:3].mean(axis=0))
        >>> display = AnomalyMapDisplay.from_predictions(
        ...     retina.images, maps, masks=retina.masks
        ... )
        >>> len(display.contours_)
        3
        """
        images, maps = to_pictures(images), to_pictures(maps)
        if reconstructions is not None:
            reconstructions = to_pictures(reconstructions)
        _check_sizes("Map", maps, images)
        drawn = None if masks is None else _to_masks(masks)
        _check_sizes("Mask", drawn or [], images)
        display = cls(
            images, maps, reconstructions=reconstructions, masks=drawn, scores=scores
        )
        return display.plot(**kwargs)

    def plot(
        self,
        *,
        vmax: float | None = None,
        cmap: str | Colormap = "inferno",
        alpha: float = 0.75,
        colorbar: bool = True,
    ) -> Self:
        """Draw the figure.

        Parameters
        ----------
        vmax : float, default=None
            Upper end of the colour scale. All maps share the scale, which starts at 0.
            None takes the largest value of all maps.

        cmap : str or matplotlib Colormap, default="inferno"
            Colours of the maps.

        alpha : float in [0, 1], default=0.75
            Opacity of the maps over the images.

        colorbar : bool, default=True
            Whether to draw a colour bar.

        Returns
        -------
        self : AnomalyMapDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan.inspection import AnomalyMapDisplay
        >>> images = load_digits().images[:4]
        >>> display = AnomalyMapDisplay(images, maps=abs(images - images.mean(axis=0)))
        >>> display.plot(vmax=16, cmap="viridis").maps_[0].get_clim() == (0, 16)
        True
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        check_consistent_length(self.images, self.maps, self.masks, self.scores)
        rows = {"image": self.images}
        if self.reconstructions is not None:
            check_consistent_length(self.images, self.reconstructions)
            rows["nearest\nnormal"] = self.reconstructions
        rows["anomaly\nmap"] = self.images
        self.figure_, self.axes_ = axes_grid(
            len(rows), len(self.images), self.images[0]
        )
        limits = shared_limits(self.images)
        drawn = [
            [
                draw_picture(ax, picture, *limits)
                for ax, picture in zip(axes, pictures, strict=True)
            ]
            for axes, pictures in zip(self.axes_, rows.values(), strict=True)
        ]
        self.images_ = drawn[0]
        if vmax is None:
            vmax = max(float(np.max(each)) for each in self.maps) or 1.0
        self.maps_, self.contours_ = [], []
        for i, (ax, each) in enumerate(zip(self.axes_[-1], self.maps, strict=True)):
            shown = ax.imshow(each, cmap=cmap, vmin=0, vmax=vmax, alpha=alpha)
            self.maps_.append(shown)
            mask = None if self.masks is None else self.masks[i]
            if mask is not None and np.any(mask):
                of_mask = np.asarray(mask, dtype=float)
                contour = ax.contour(of_mask, [0.5], colors="cyan", linewidths=0.8)
                self.contours_.append(contour)
        for ax, name in zip(self.axes_[:, 0], rows, strict=True):
            ax.set_ylabel(name, rotation=0, ha="right", va="center")
        if self.scores is not None:
            for ax, score in zip(self.axes_[0], self.scores, strict=True):
                ax.set_title(f"{score:.3g}", fontsize=9)
        if colorbar:
            bar = self.figure_.colorbar(self.maps_[-1], ax=self.axes_[-1], pad=0.01)
            bar.set_label("anomaly")
        return self


class ScoreHistogramDisplay:
    """Histograms of the scores of normal and anomalous images.

    Use `from_estimator` or `from_predictions` to make a display.

    Parameters
    ----------
    scores : array of shape (n,)
        The lower, the more abnormal.

    y : array of shape (n,), default=None
        1 for normal images and -1 for anomalies.

    threshold : float, default=None
        Images with lower scores are taken as anomalies.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure and Axes

    bars_ : dict
        "normal" and "anomalous", or "all" without `y` -> bars of the histogram.

    line_ : matplotlib Line2D or None
        Line at the threshold.

    Examples
    --------
    >>> from sklearn_anogan.inspection import ScoreHistogramDisplay
    >>> display = ScoreHistogramDisplay.from_predictions(
    ...     [-3.0, -2.5, -0.5, -0.2], [-1, -1, 1, 1], threshold=-1.0
    ... )
    >>> sorted(display.bars_)
    ['anomalous', 'normal']
    """

    figure_: Figure
    ax_: Axes
    bars_: dict[str, BarContainer]
    line_: Line2D | None

    def __init__(
        self,
        scores: NDArray[Any],
        *,
        y: NDArray[Any] | None = None,
        threshold: float | None = None,
    ) -> None:
        self.scores = scores
        self.y = y
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls,
        detector: OutlierDetector,
        X: ImagesLike,
        y: ArrayLike | None = None,
        **kwargs: Any,
    ) -> Self:
        """Score images and draw the histogram, with the detector's threshold.

        Parameters
        ----------
        detector : outlier detector
            Any fitted outlier detector, those of scikit-learn included.

        X : array-like of n samples
            Samples in a layout that `detector` takes.

        y : array-like of shape (n,), default=None
            1 for normal samples and -1 for anomalies.

        **kwargs
            Arguments of `plot`.

        Returns
        -------
        display : ScoreHistogramDisplay

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.ensemble import IsolationForest
        >>> from sklearn_anogan.inspection import ScoreHistogramDisplay
        >>> X = np.random.RandomState(0).normal(size=(100, 2))
        >>> detector = IsolationForest(random_state=0).fit(X)
        >>> display = ScoreHistogramDisplay.from_estimator(detector, X)
        >>> display.threshold == detector.offset_
        True
        """
        threshold = getattr(detector, "offset_", None)
        if threshold is not None:
            threshold = float(np.squeeze(threshold))
        scores = detector.score_samples(X)
        return cls.from_predictions(scores, y, threshold=threshold, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike,
        y: ArrayLike | None = None,
        *,
        threshold: float | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the histogram of given scores.

        Parameters
        ----------
        scores : array-like of shape (n,)
            The lower, the more abnormal.

        y : array-like of shape (n,), default=None
            1 for normal samples and -1 for anomalies.

        threshold : float, default=None
            Samples with lower scores are taken as anomalies.

        **kwargs
            Arguments of `plot`.

        Returns
        -------
        display : ScoreHistogramDisplay

        Raises
        ------
        ValueError
            If `y` has values other than 1 and -1, or not the length of `scores`.

        Examples
        --------
        >>> from sklearn_anogan.inspection import ScoreHistogramDisplay
        >>> display = ScoreHistogramDisplay.from_predictions(
        ...     [-3.0, -2.5, -0.5, -0.2], [-1, 1, 1, 1], threshold=-1.0, bins=2
        ... )
        >>> [int(bar.get_height()) for bar in display.bars_["normal"]]
        [1, 2]
        """
        values = check_array(scores, ensure_2d=False, input_name="scores")
        if y is not None:
            check_consistent_length(values, y)
            y = np.asarray(y)
            if not np.isin(y, (-1, 1)).all():
                raise ValueError(
                    "y must be 1 for normal samples and -1 for anomalies, got the "
                    f"values {np.unique(y).tolist()}."
                )
        return cls(values, y=y, threshold=threshold).plot(**kwargs)

    def plot(self, ax: Axes | None = None, *, bins: int = 40) -> Self:
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in. None makes a new figure.

        bins : int, default=40
            Number of bins over the whole range of scores.

        Returns
        -------
        self : ScoreHistogramDisplay

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn_anogan.inspection import ScoreHistogramDisplay
        >>> scores = [-3.0, -2.5, -0.5, -0.2]
        >>> figure, (left, right) = plt.subplots(1, 2)
        >>> display = ScoreHistogramDisplay.from_predictions(scores, ax=left)
        >>> display.plot(right, bins=2).figure_ is figure
        True
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        self.ax_, self.figure_ = _one_axes(ax)
        edges = np.histogram_bin_edges(self.scores, bins)
        groups = {"all": np.ones(len(self.scores), bool)}
        if self.y is not None:
            groups = {"normal": self.y == 1, "anomalous": self.y == -1}
        self.bars_ = {}
        for (name, chosen), color in zip(groups.items(), ("C0", "C3"), strict=False):
            label = f"{name} ({chosen.sum()})"
            _, _, self.bars_[name] = self.ax_.hist(  # type: ignore[assignment]
                self.scores[chosen],
                edges,  # type: ignore[arg-type]
                color=color,
                alpha=0.6,
                label=label,
            )
        self.line_ = None
        if self.threshold is not None:
            self.line_ = self.ax_.axvline(
                self.threshold, color="k", linestyle="--", label="threshold"
            )
        self.ax_.set(xlabel="score (lower is more abnormal)", ylabel="images")
        self.ax_.legend()
        return self


def _one_axes(ax):
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    return ax, ax.figure


def _to_masks(masks):
    """Masks in any layout as a list of arrays (height, width); None stays None."""
    return [_to_mask(mask, i) for i, mask in enumerate(masks)]


def _to_mask(mask, i):
    if mask is None:
        return None
    try:
        (found,) = to_pictures([mask])
        if found.ndim == 2:
            return found
        shape = found.shape
    except ValueError:
        shape = np.shape(mask)
    raise ValueError(
        f"Mask {i} has the shape {tuple(shape)}: a mask must be (height, width), or "
        "None for an image without one."
    )


def _check_sizes(what, pictures, images):
    """Refuse what would be drawn at another scale than its image."""
    for i, (picture, image) in enumerate(zip(pictures, images, strict=False)):
        if picture is not None and picture.shape[:2] != image.shape[:2]:
            raise ValueError(
                f"{what} {i} has the size {picture.shape[:2]}, but its image "
                f"{image.shape[:2]}. Give all the size of the images."
            )
