# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Drawing of images: layouts, channels, a shared range of grey levels, grids."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

#: Side of an image in a row of images, in inches.
CELL = 1.3

#: Images of uint8 with a lower maximum use few of the 256 levels.
_FEW_LEVELS = 64

#: Red, green and blue of contours around marked places.
_CONTOUR = (0, 255, 255)


def to_array(values: Any) -> NDArray[Any]:
    """Convert anything array-like, tensors of any device and type among it."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)


def to_pictures(X: Any) -> list[NDArray[Any]]:
    """Convert images to a list of arrays (h, w) or (h, w, channels)."""
    pictures = []
    for image in X:
        if isinstance(image, torch.Tensor):
            image = image.movedim(0, -1) if image.ndim == 3 else image
        image = to_array(image)
        if image.ndim not in (2, 3):
            raise ValueError(
                f"Cannot draw images of the shape {image.shape}: they must be (height, "
                "width) or (height, width, channels). Reshape flattened ones."
            )
        pictures.append(image[..., 0] if image.shape[2:] == (1,) else image)
    return pictures


def shared_limits(pictures):
    """Lowest and highest value of all pictures; 0 and 255 if they are uint8."""
    if all(picture.dtype == np.uint8 for picture in pictures):
        return 0, 255
    low = min(float(np.min(picture)) for picture in pictures)
    high = max(float(np.max(picture)) for picture in pictures)
    return low, high if high > low else low + 1


def own_limits(picture):
    """Lowest and highest value; 0 and 255 if the picture is uint8 with many levels."""
    if picture.dtype == np.uint8 and picture.max() < _FEW_LEVELS:
        return float(picture.min()), float(picture.max())
    return shared_limits([picture])


def draw_picture(ax, picture, low, high):
    """Draw 3 or 4 channels in colour, and the mean of any other number in grey."""
    ax.set(xticks=[], yticks=[])
    if picture.ndim == 3 and picture.shape[2] in (3, 4):
        picture = np.clip((picture.astype(float) - low) / (high - low), 0, 1)
        return ax.imshow(picture)
    if picture.ndim == 3:
        picture = picture.mean(axis=2)
    return ax.imshow(picture, cmap="gray", vmin=low, vmax=high)


def axes_grid(n_rows, n_columns, picture):
    """Make axes for pictures with about the shape of `picture`."""
    import matplotlib.pyplot as plt

    width = max(3.5, CELL * n_columns + 1)
    cell = (width - 1) / n_columns
    aspect = np.clip(picture.shape[0] / picture.shape[1], 0.3, 3)
    return plt.subplots(
        n_rows,
        n_columns,
        figsize=(width, (min(cell, 2.5) * aspect + 0.1) * n_rows + 0.4),
        layout="constrained",
        squeeze=False,
    )


def fitted_to(picture, least, most, merge=np.mean):
    """Repeat or merge pixels, so that the longer side has `least` to `most` pixels.

    Parameters
    ----------
    picture : array (height, width, ...)
    least, most : int
        `most` is at least twice `least`.
    merge : callable
        What becomes of the pixels that are merged.

    Returns
    -------
    picture : array (height, width, ...)
    """
    side = max(picture.shape[:2])
    if (times := least // side) > 1:
        return picture.repeat(times, axis=0).repeat(times, axis=1)
    if (factor := -(-side // most)) == 1:
        return picture
    margins = [(0, -length % factor) for length in picture.shape[:2]]
    margins += [(0, 0)] * (picture.ndim - 2)
    blocks = np.pad(picture, margins, mode="edge")
    height, width = (length // factor for length in blocks.shape[:2])
    blocks = blocks.reshape(height, factor, width, factor, *picture.shape[2:])
    return merge(blocks, axis=(1, 3))


def in_colors(picture, low, high):
    """The picture as uint8 (height, width, 3); other than 3 or 4 channels are grey."""
    picture = np.asarray(picture, np.float32)
    picture = np.clip((picture - low) / max(high - low, 1e-30), 0, 1)
    if picture.ndim == 3 and picture.shape[2] not in (3, 4):
        picture = picture.mean(axis=2)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., np.newaxis], 3, axis=2)
    return np.rint(255 * picture[..., :3]).astype(np.uint8)


def marked(colors, heat, mask):
    """The picture with its map as heat, and a contour around what is marked.

    Parameters
    ----------
    colors : ndarray (height, width, 3), uint8
    heat : ndarray (height, width)
        In [0, 1]: 0 leaves the picture as it is.
    mask : ndarray (height, width), bool

    Returns
    -------
    colors : ndarray (height, width, 3), uint8
    """
    from matplotlib import colormaps

    opacity = 0.65 * heat[..., np.newaxis]
    of_map = colormaps["inferno"](heat, bytes=True)[..., :3]
    mixed = (1 - opacity) * colors + opacity * of_map
    # A line around what is marked, which goes along the border where the mask does.
    is_border = np.ones(mask.shape, bool)
    is_border[1:-1, 1:-1] = False
    around = binary_dilation(mask, np.ones((3, 3))) & ~mask
    mixed[around | (mask & is_border)] = _CONTOUR
    return np.rint(mixed).astype(np.uint8)


def draw_scale(ax, heat):
    """Draw which colours stand for which values of a map, and the threshold.

    Parameters
    ----------
    ax : matplotlib Axes
    heat : Heat
    """
    height, width = 12, 400
    shares = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    grey = np.full((height, width, 3), 128, np.uint8)
    ax.imshow(marked(grey, shares, np.zeros((height, width), bool)), aspect="auto")
    ticks = np.linspace(0, width - 1, 6)
    values = [f"{heat.value_of(tick / (width - 1)):.3g}" for tick in ticks]
    values[0], values[-1] = f"≤ {values[0]}", f"≥ {values[-1]}"
    ax.set(yticks=[], xlabel="value of the map")
    ax.set_xticks(ticks, values)
    at = np.interp(heat.threshold, heat.value_of(shares[0]), np.arange(width))
    ax.axvline(at, color=np.divide(_CONTOUR, 255))
    ax.annotate(
        f"threshold {heat.threshold:.3g}",
        (at, 1),
        (0, 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        fontsize="small",
    )
