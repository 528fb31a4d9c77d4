# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Displays of what a detector has learned. Only drawing imports matplotlib."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from .._base import own_random_state
from .._types import Numbers, Pictures, Seed
from ._drawing import CELL, axes_grid, draw_picture, shared_limits, to_pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

    from .._detector import AnoGANDetector


class TrainingDisplay:
    """Losses and the diversity of generated images, epoch by epoch.

    Use `from_estimator` to make a display.

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
        Name in `history` -> matplotlib Line2D.

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

    figure_: Figure
    axes_: NDArray[np.object_]
    lines_: dict[str, Line2D]

    def __init__(self, history: Sequence[dict[str, Any]]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, detector: AnoGANDetector) -> Self:
        """Draw the history of a fit.

        Parameters
        ----------
        detector : AnoGANDetector
            A fitted detector.

        Returns
        -------
        display : TrainingDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> from sklearn_anogan.inspection import TrainingDisplay
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=3, random_state=0)
        >>> detector = detector.fit(load_digits().images[:60])
        >>> display = TrainingDisplay.from_estimator(detector)
        >>> display.lines_["diversity"].get_xdata()
        array([1, 2, 3])
        """
        check_is_fitted(detector)
        return cls(detector.history_).plot()

    def plot(self, axes: Sequence[Axes] | None = None) -> Self:
        """Draw the figure.

        Parameters
        ----------
        axes : sequence of 3 matplotlib Axes, default=None
            Axes to draw in. None makes a new figure.

        Returns
        -------
        self : TrainingDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> from sklearn_anogan.inspection import TrainingDisplay
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=3, random_state=0)
        >>> detector = detector.fit(load_digits().images[:60])
        >>> display = TrainingDisplay(detector.history_).plot()
        >>> [ax.get_title() for ax in display.axes_]
        ['loss', 'probability of being real', 'diversity of generated images']
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        if axes is None:
            import matplotlib.pyplot as plt

            _, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
        self.axes_ = np.asarray(axes)
        self.figure_ = self.axes_[0].figure
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
    """Generated images and their loss during the latent search.

    Use `from_estimator` to make a display.

    Parameters
    ----------
    image : array (height, width) or (height, width, channels)
        The query, for which the nearest generated image is searched.

    steps : array of shape (n_shown,)
        Numbers of gradient steps.

    images : list of n_shown arrays shaped like `image`
        The nearest generated image after each number of steps.

    losses : array of shape (n_shown,)
        Residual term of each generated image.

    Attributes
    ----------
    figure_ : matplotlib Figure

    axes_ : ndarray of n_shown + 1 matplotlib Axes
        Axes of the generated images and the query.

    ax_ : matplotlib Axes
        Axes of the loss.

    line_ : matplotlib Line2D
        Line of the loss.

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

    figure_: Figure
    axes_: NDArray[np.object_]
    ax_: Axes
    line_: Line2D
    steps: Any  # arrays, unless lists were given
    losses: Any

    def __init__(
        self,
        image: NDArray[Any],
        steps: Numbers,
        images: Pictures,
        losses: Numbers,
    ) -> None:
        self.image = image
        self.steps = steps
        self.images = images
        self.losses = losses

    @classmethod
    def from_estimator(
        cls,
        detector: AnoGANDetector,
        image: ArrayLike | torch.Tensor,
        *,
        steps: NDArray[np.int_] | Sequence[int] = (0, 1, 2, 5, 10, 25, 50, 100),
    ) -> Self:
        """Search one image with increasing numbers of steps.

        Parameters
        ----------
        detector : AnoGANDetector
            A detector fitted to images. Drawing does not change it.

        image : array (height, width) or (height, width, channels), or tensor
            The query, for which the nearest generated image is searched.

        steps : list of int
            Numbers of gradient steps after which to show the image, ascending.

        Returns
        -------
        display : LatentSearchDisplay

        Raises
        ------
        ValueError
            If `steps` is empty.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> from sklearn_anogan.inspection import LatentSearchDisplay
        >>> images = load_digits().images[:60]
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> display = LatentSearchDisplay.from_estimator(
        ...     detector.fit(images), images[0], steps=[0, 1, 5]
        ... )
        >>> [ax.get_title() for ax in display.axes_]
        ['0 steps', '1 step', '5 steps', 'query']
        """
        if len(steps) == 0:
            raise ValueError("steps must be one or more numbers of gradient steps.")
        X = image[None] if isinstance(image, torch.Tensor) else np.asarray(image)[None]
        images, losses = [], []
        searching = copy.copy(detector)
        if detector.inversion == "encoder":  # an encoder alone takes no steps
            searching.set_params(inversion="encoder+search")
        for n_steps in steps:
            found = searching.set_params(search_steps=n_steps).explain(X)
            images += to_pictures(found.reconstructions)
            losses.append(found.terms.residual[0])
        (picture,) = to_pictures(X)
        return cls(picture, np.asarray(steps), images, np.asarray(losses)).plot()

    def plot(self) -> Self:
        """Draw the figure.

        Returns
        -------
        self : LatentSearchDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan.inspection import LatentSearchDisplay
        >>> image, *images = load_digits().images[:4]  # as if three were generated
        >>> losses = [abs(image - other).mean() for other in images]
        >>> display = LatentSearchDisplay(image, [0, 1, 2], images, losses)
        >>> display.plot().line_.get_xdata()
        array([0, 1, 2])
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n = len(self.images) + 1
        self.figure_ = plt.figure(
            figsize=(max(5, CELL * n), 2 * CELL + 1.6), layout="constrained"
        )
        grid = self.figure_.add_gridspec(2, n, height_ratios=[1, 1.4])
        self.axes_ = np.array([self.figure_.add_subplot(grid[0, i]) for i in range(n)])
        limits = shared_limits([self.image])
        titles = [f"{step} step{'' if step == 1 else 's'}" for step in self.steps]
        for ax, picture, title in zip(
            self.axes_,
            [*self.images, self.image],
            [*titles, "query"],
            strict=True,
        ):
            draw_picture(ax, picture, *limits)
            ax.set_title(title, fontsize=9)
        self.ax_ = self.figure_.add_subplot(grid[1, :])
        (self.line_,) = self.ax_.plot(self.steps, self.losses, "o-")
        self.ax_.set(xlabel="gradient steps", ylabel="residual")
        self.ax_.set_ylim(0, 1.1 * np.max(self.losses))
        return self


class LatentWalkDisplay:
    """Generated images on the way from one latent code to another.

    If the generator has learned what its training images share, the walk is smooth. If
    the generator has memorised them, the walk jumps from one training image to the next
    (Radford et al. 2016, section 6.1). Use `from_estimator` to make a display.

    Parameters
    ----------
    walks : list of n_walks lists of n_steps arrays
        Images of each walk, (height, width) or (height, width, channels).

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

    figure_: Figure
    axes_: NDArray[np.object_]
    images_: list[AxesImage]

    def __init__(self, walks: Sequence[Pictures]) -> None:
        self.walks = walks

    @classmethod
    def from_estimator(
        cls,
        detector: AnoGANDetector,
        *,
        n_walks: int = 4,
        n_steps: int = 10,
        random_state: Seed = None,
    ) -> Self:
        """Walk between random latent codes.

        Parameters
        ----------
        detector : AnoGANDetector
            A detector fitted to images.

        n_walks : int, default=4
            Number of walks, one in each row.

        n_steps : int, default=10
            Number of images in a walk, including both ends.

        random_state : int, RandomState instance or None, default=None
            Seed of the latent codes at the ends.

        Returns
        -------
        display : LatentWalkDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan import AnoGANDetector
        >>> from sklearn_anogan.inspection import LatentWalkDisplay
        >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
        >>> detector = detector.fit(load_digits().images[:60])
        >>> display = LatentWalkDisplay.from_estimator(detector, n_walks=2, n_steps=5)
        >>> len(display.walks), display.walks[0][0].shape
        (2, (8, 8))
        """
        check_is_fitted(detector)
        check_scalar(n_walks, "n_walks", Integral, min_val=1)
        check_scalar(n_steps, "n_steps", Integral, min_val=2)
        seed = own_random_state(random_state).randint(2**31 - 1)
        ends = detector.model_.draw(2 * n_walks, seed).unflatten(0, (2, n_walks))
        share = torch.linspace(0, 1, n_steps)[:, None]
        walks = [
            to_pictures(detector.generate(torch.lerp(begin, end, share)))
            for begin, end in zip(*ends, strict=True)
        ]
        return cls(walks).plot()

    def plot(self) -> Self:
        """Draw the figure.

        Returns
        -------
        self : LatentWalkDisplay

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_anogan.inspection import LatentWalkDisplay
        >>> begin, end = load_digits().images[:2]
        >>> # For comparison with a walk: one image fades into another.
        >>> fading = [(1 - t) * begin + t * end for t in (0, 0.25, 0.5, 0.75, 1)]
        >>> LatentWalkDisplay([fading]).plot().axes_.shape
        (1, 5)
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        self.figure_, self.axes_ = axes_grid(
            len(self.walks), len(self.walks[0]), self.walks[0][0]
        )
        pictures = [picture for walk in self.walks for picture in walk]
        limits = shared_limits(pictures)
        self.images_ = [
            draw_picture(ax, picture, *limits)
            for ax, picture in zip(self.axes_.ravel(), pictures, strict=True)
        ]
        return self
