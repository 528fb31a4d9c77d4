# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Figures in scikit-learn's Display convention; matplotlib only when one is drawn."""

from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_array, check_consistent_length, check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from .._shared import own_random_state

#: Widest grid that is drawn with one size for all figures, in inches of a cell.
_CELL = 1.3


class AnomalyMapDisplay:
    """Images, the nearest normal ones, and maps of where they are anomalous.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    images : list of n arrays (height, width) or (height, width, channels)
        The queries.

    maps : list of n arrays (height, width)
        How anomalous each pixel is.

    reconstructions : list of n arrays shaped like the images, default=None
        The nearest normal images.

    masks : list of n arrays (height, width), default=None
        True where an image is known to be anomalous.

    scores : array of shape (n,), default=None
        Written above the images.

    Attributes
    ----------
    figure_ : matplotlib Figure

    axes_ : ndarray of matplotlib Axes, of shape (2 or 3, n)
        With ``image``, ``nearest`` if there are reconstructions, and ``map`` in rows.

    images_, maps_ : lists of n matplotlib AxesImages
        The queries, and the maps over them.

    contours_ : list of matplotlib QuadContourSets
        Of the masks that are not empty.

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

    def __init__(self, images, maps, *, reconstructions=None, masks=None, scores=None):
        self.images = images
        self.maps = maps
        self.reconstructions = reconstructions
        self.masks = masks
        self.scores = scores

    @classmethod
    def from_estimator(cls, detector, X, *, masks=None, **kwargs):
        """Search the nearest normal images and draw the maps.

        Parameters
        ----------
        detector : AnoGANDetector or PatchDetector
            Fitted to images.

        X : array-like, tensor or list of n images
            In any layout that the detector takes but flattened.

        masks : array-like of shape (n, height, width) or list, default=None
            True where an image is known to be anomalous: the contour is drawn.

        **kwargs
            Of `plot`.

        Returns
        -------
        display : AnomalyMapDisplay
        """
        reconstructions = None
        if hasattr(detector, "reconstruct"):
            reconstructions = _to_pictures(detector.reconstruct(X))
        display = cls(
            _to_pictures(X),
            _to_pictures(detector.anomaly_map(X)),
            reconstructions=reconstructions,
            masks=masks,
            scores=detector.score_samples(X),
        )
        return display.plot(**kwargs)

    @classmethod
    def from_predictions(
        cls, images, maps, *, reconstructions=None, masks=None, scores=None, **kwargs
    ):
        """Draw maps that are known.

        Parameters
        ----------
        images, maps, reconstructions, masks, scores
            As of the class.

        **kwargs
            Of `plot`.

        Returns
        -------
        display : AnomalyMapDisplay
        """
        if reconstructions is not None:
            reconstructions = _to_pictures(reconstructions)
        display = cls(
            _to_pictures(images),
            _to_pictures(maps),
            reconstructions=reconstructions,
            masks=masks,
            scores=scores,
        )
        return display.plot(**kwargs)

    def plot(self, *, vmax=None, cmap="inferno", alpha=0.75, colorbar=True):
        """Draw the figure.

        Parameters
        ----------
        vmax : float, default=None
            Upper end of the maps' one colour scale, whose lower end is 0. None for the
            largest value of all maps.

        cmap : str or matplotlib Colormap, default="inferno"
            Of the maps.

        alpha : float in [0, 1], default=0.75
            How much the maps cover the images beneath.

        colorbar : bool, default=True
            Whether to explain the colours.

        Returns
        -------
        self : AnomalyMapDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        check_consistent_length(self.images, self.maps, self.masks, self.scores)
        rows = {"image": self.images}
        if self.reconstructions is not None:
            check_consistent_length(self.images, self.reconstructions)
            rows["nearest\nnormal"] = self.reconstructions
        rows["anomaly\nmap"] = self.images
        self.figure_, self.axes_ = _grid(len(rows), len(self.images))
        limits = _limits(self.images)
        drawn = [
            [
                _draw(ax, picture, *limits)
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
            if self.masks is not None and np.any(self.masks[i]):
                mask = np.asarray(self.masks[i], dtype=float)
                contour = ax.contour(mask, [0.5], colors="cyan", linewidths=0.8)
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
    """How the scores of normal and anomalous images are spread.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    scores : array of shape (n,)
        The lower, the more abnormal.

    y : array of shape (n,), default=None
        1 for normal images and -1 for anomalies.

    threshold : float, default=None
        Scores below it are taken for anomalies.

    Attributes
    ----------
    figure_, ax_ : matplotlib Figure and Axes

    bars_ : dict
        "normal" and "anomalous", or "all" -> their bars.

    line_ : matplotlib Line2D or None
        The threshold.

    Examples
    --------
    >>> from sklearn_anogan.inspection import ScoreHistogramDisplay
    >>> display = ScoreHistogramDisplay.from_predictions(
    ...     [-3.0, -2.5, -0.5, -0.2], [-1, -1, 1, 1], threshold=-1.0
    ... )
    >>> sorted(display.bars_)
    ['anomalous', 'normal']
    """

    def __init__(self, scores, *, y=None, threshold=None):
        self.scores = scores
        self.y = y
        self.threshold = threshold

    @classmethod
    def from_estimator(cls, detector, X, y=None, **kwargs):
        """Score images and draw the histogram, with the detector's threshold.

        Parameters
        ----------
        detector : outlier detector
            Fitted; any of scikit-learn's.

        X : array-like of n samples
            As the detector takes them.

        y : array-like of shape (n,), default=None
            1 for normal samples and -1 for anomalies.

        **kwargs
            Of `plot`.

        Returns
        -------
        display : ScoreHistogramDisplay
        """
        threshold = getattr(detector, "offset_", None)
        if threshold is not None:
            threshold = float(np.squeeze(threshold))
        scores = detector.score_samples(X)
        return cls.from_predictions(scores, y, threshold=threshold, **kwargs)

    @classmethod
    def from_predictions(cls, scores, y=None, *, threshold=None, **kwargs):
        """Draw the histogram of scores that are known.

        Parameters
        ----------
        scores : array-like of shape (n,)
            The lower, the more abnormal.

        y : array-like of shape (n,), default=None
            1 for normal samples and -1 for anomalies.

        threshold : float, default=None
            Scores below it are taken for anomalies.

        **kwargs
            Of `plot`.

        Returns
        -------
        display : ScoreHistogramDisplay

        Raises
        ------
        ValueError
            If `y` has other values than 1 and -1, or another length than the scores.
        """
        scores = check_array(scores, ensure_2d=False, input_name="scores")
        if y is not None:
            check_consistent_length(scores, y)
            y = np.asarray(y)
            if not np.isin(y, (-1, 1)).all():
                raise ValueError(
                    "y must be 1 for normal samples and -1 for anomalies, got the "
                    f"values {np.unique(y).tolist()}."
                )
        return cls(scores, y=y, threshold=threshold).plot(**kwargs)

    def plot(self, ax=None, *, bins=40):
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to; None makes a new figure.

        bins : int, default=40
            Of the whole range of scores.

        Returns
        -------
        self : ScoreHistogramDisplay
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
            _, _, self.bars_[name] = self.ax_.hist(
                self.scores[chosen], edges, color=color, alpha=0.6, label=label
            )
        self.line_ = None
        if self.threshold is not None:
            self.line_ = self.ax_.axvline(
                self.threshold, color="k", linestyle="--", label="threshold"
            )
        self.ax_.set(xlabel="score (lower is more abnormal)", ylabel="images")
        self.ax_.legend()
        return self


class TrainingDisplay:
    """Losses and the diversity of generated images, epoch by epoch.

    Use `from_estimator` to make one.

    Parameters
    ----------
    history : skorch History or list of dicts
        The detector's ``history_``.

    Attributes
    ----------
    figure_ : matplotlib Figure

    axes_ : ndarray of three matplotlib Axes
        Losses; probabilities D(x) and D(G(z)); diversity.

    lines_ : dict
        Name in the history -> matplotlib Line2D.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.inspection import TrainingDisplay
    >>> detector = AnoGANDetector(max_epochs=3, random_state=0)
    >>> detector = detector.fit(load_digits().images[:60])
    >>> sorted(TrainingDisplay.from_estimator(detector).lines_)[:3]
    ['d_fake', 'd_real', 'discriminator_loss']
    """

    _PANELS = (
        ("loss", ("discriminator_loss", "generator_loss", "recognition_loss")),
        ("probability of being real", ("d_real", "d_fake")),
        ("diversity of generated images", ("diversity",)),
    )

    def __init__(self, history):
        self.history = history

    @classmethod
    def from_estimator(cls, detector):
        """Draw the history of a fit.

        Parameters
        ----------
        detector : AnoGANDetector
            Fitted.

        Returns
        -------
        display : TrainingDisplay
        """
        check_is_fitted(detector)
        return cls(detector.history_).plot()

    def plot(self):
        """Draw the figure.

        Returns
        -------
        self : TrainingDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        self.figure_, self.axes_ = plt.subplots(
            1, 3, figsize=(11, 3), layout="constrained"
        )
        epochs = np.arange(1, len(self.history) + 1)
        self.lines_ = {}
        for ax, (title, names) in zip(self.axes_, self._PANELS, strict=True):
            for name in names:
                values = [epoch[name] for epoch in self.history]
                (self.lines_[name],) = ax.plot(epochs, values, label=name)
            ax.set(title=title, xlabel="epoch", ylim=(0, None))
            ax.legend(fontsize=8)
        self.axes_[1].axhline(0.5, color="0.8", zorder=0)
        self.axes_[2].axhline(1, color="0.8", zorder=0)
        return self


class LatentSearchDisplay:
    """Images along the latent search, and the loss falling.

    Use `from_estimator` to make one.

    Parameters
    ----------
    image : array (height, width) or (height, width, channels)
        The query.

    steps : array of shape (n_shown,)
        Gradient steps taken.

    images : list of n_shown arrays shaped like the image
        The nearest generated images after so many steps.

    losses : array of shape (n_shown,)
        Their residual terms.

    Attributes
    ----------
    figure_ : matplotlib Figure

    axes_ : ndarray of n_shown + 1 matplotlib Axes
        The generated images and the query.

    ax_ : matplotlib Axes
        Of the loss.

    line_ : matplotlib Line2D
        The loss.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.inspection import LatentSearchDisplay
    >>> images = load_digits().images[:60]
    >>> detector = AnoGANDetector(max_epochs=2, random_state=0).fit(images)
    >>> display = LatentSearchDisplay.from_estimator(detector, images[0], steps=[0, 5])
    >>> display.losses.shape
    (2,)
    """

    def __init__(self, image, steps, images, losses):
        self.image = image
        self.steps = steps
        self.images = images
        self.losses = losses

    @classmethod
    def from_estimator(cls, detector, image, *, steps=(0, 1, 2, 5, 10, 25, 50, 100)):
        """Search one image with ever more steps.

        Parameters
        ----------
        detector : AnoGANDetector
            Fitted to images; it is left as it is.

        image : array (height, width) or (height, width, channels), or tensor
            The query.

        steps : list of int
            After how many gradient steps to look, ascending.

        Returns
        -------
        display : LatentSearchDisplay
        """
        if len(steps) == 0:
            raise ValueError("steps must be one or more numbers of gradient steps.")
        X = image[None] if isinstance(image, torch.Tensor) else np.asarray(image)[None]
        images, losses = [], []
        searching = _copy(detector)
        if detector.inversion == "encoder":  # which takes no steps
            searching.set_params(inversion="encoder+search")
        for n_steps in steps:
            searching.set_params(search_steps=n_steps, anomaly_score="anogan")
            images += _to_pictures(searching.reconstruct(X))
            losses.append(searching.score_terms(X).residual[0])
        (picture,) = _to_pictures(X)
        return cls(picture, np.asarray(steps), images, np.asarray(losses)).plot()

    def plot(self):
        """Draw the figure.

        Returns
        -------
        self : LatentSearchDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n = len(self.images) + 1
        self.figure_ = plt.figure(
            figsize=(max(5, _CELL * n), 2 * _CELL + 1.6), layout="constrained"
        )
        grid = self.figure_.add_gridspec(2, n, height_ratios=[1, 1.4])
        self.axes_ = np.array([self.figure_.add_subplot(grid[0, i]) for i in range(n)])
        limits = _limits([self.image])
        titles = [f"{step} step{'' if step == 1 else 's'}" for step in self.steps]
        for ax, picture, title in zip(
            self.axes_,
            [*self.images, self.image],
            [*titles, "query"],
            strict=True,
        ):
            _draw(ax, picture, *limits)
            ax.set_title(title, fontsize=9)
        self.ax_ = self.figure_.add_subplot(grid[1, :])
        (self.line_,) = self.ax_.plot(self.steps, self.losses, "o-")
        self.ax_.set(xlabel="gradient steps", ylabel="residual")
        self.ax_.set_ylim(0, 1.1 * np.max(self.losses))
        return self


class LatentWalkDisplay:
    """Generated images on the way from one latent code to another.

    A generator that has learned what its images have in common changes them smoothly;
    one that has memorised them jumps from one to the next (Radford et al. 2016, section
    6.1). Use `from_estimator` to make one.

    Parameters
    ----------
    walks : list of n_walks lists of n_steps arrays
        Images (height, width) or (height, width, channels).

    Attributes
    ----------
    figure_ : matplotlib Figure

    axes_ : ndarray of matplotlib Axes, of shape (n_walks, n_steps)

    images_ : list of n_walks * n_steps matplotlib AxesImages

    References
    ----------
    A. Radford, L. Metz, S. Chintala, "Unsupervised representation learning with deep
    convolutional generative adversarial networks", 2016.
    :doi:`10.48550/arXiv.1511.06434`

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.inspection import LatentWalkDisplay
    >>> images = load_digits().images[:60]
    >>> detector = AnoGANDetector(max_epochs=2, random_state=0).fit(images)
    >>> LatentWalkDisplay.from_estimator(detector, n_walks=2, n_steps=5).axes_.shape
    (2, 5)
    """

    def __init__(self, walks):
        self.walks = walks

    @classmethod
    def from_estimator(cls, detector, *, n_walks=4, n_steps=10, random_state=None):
        """Walk between random codes.

        Parameters
        ----------
        detector : AnoGANDetector
            Fitted to images.

        n_walks : int, default=4
            Walks, one in each row.

        n_steps : int, default=10
            Images of a walk, both ends among them.

        random_state : int, RandomState instance or None, default=None
            Decides the ends.

        Returns
        -------
        display : LatentWalkDisplay
        """
        check_is_fitted(detector)
        check_scalar(n_walks, "n_walks", Integral, min_val=1)
        check_scalar(n_steps, "n_steps", Integral, min_val=2)
        seed = own_random_state(random_state).randint(2**31 - 1)
        ends = detector._draw(2 * n_walks, seed).unflatten(0, (2, n_walks))
        share = torch.linspace(0, 1, n_steps)[:, None]
        walks = [
            _to_pictures(detector._generate(torch.lerp(begin, end, share)))
            for begin, end in zip(*ends, strict=True)
        ]
        return cls(walks).plot()

    def plot(self):
        """Draw the figure.

        Returns
        -------
        self : LatentWalkDisplay
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        self.figure_, self.axes_ = _grid(len(self.walks), len(self.walks[0]))
        pictures = [picture for walk in self.walks for picture in walk]
        limits = _limits(pictures)
        self.images_ = [
            _draw(ax, picture, *limits)
            for ax, picture in zip(self.axes_.ravel(), pictures, strict=True)
        ]
        return self


def _copy(detector):
    """A fitted detector whose parameters may be set without a change to the other."""
    copied = detector.__class__.__new__(detector.__class__)
    vars(copied).update(vars(detector))
    return copied


def _to_pictures(X):
    """Images in any layout as a list of arrays (h, w) or (h, w, channels)."""
    pictures = []
    for image in X:
        if isinstance(image, torch.Tensor):
            image = image.detach().cpu()
            image = (image.movedim(0, -1) if image.ndim == 3 else image).numpy()
        image = np.asarray(image)
        if image.ndim not in (2, 3):
            raise ValueError(
                f"Cannot draw images of the shape {image.shape}: they must be (height, "
                "width) or (height, width, channels). Reshape flattened ones."
            )
        pictures.append(image[..., 0] if image.shape[2:] == (1,) else image)
    return pictures


def _limits(pictures):
    """The range of grey levels or colours that all pictures share."""
    if all(picture.dtype == np.uint8 for picture in pictures):
        return 0, 255
    low = min(float(np.min(picture)) for picture in pictures)
    high = max(float(np.max(picture)) for picture in pictures)
    return low, high if high > low else low + 1


def _draw(ax, picture, low, high):
    """A picture in grey or in colours; of other channel counts, their mean."""
    ax.set(xticks=[], yticks=[])
    if picture.ndim == 3 and picture.shape[2] in (3, 4):
        picture = np.clip((picture.astype(float) - low) / (high - low), 0, 1)
        return ax.imshow(picture)
    if picture.ndim == 3:
        picture = picture.mean(axis=2)
    return ax.imshow(picture, cmap="gray", vmin=low, vmax=high)


def _grid(n_rows, n_columns):
    import matplotlib.pyplot as plt

    width = max(3.5, _CELL * n_columns + 1)
    cell = (width - 1) / n_columns
    return plt.subplots(
        n_rows,
        n_columns,
        figsize=(width, min(cell, 2.5) * n_rows + 0.4),
        layout="constrained",
        squeeze=False,
    )


def _one_axes(ax):
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    return ax, ax.figure
