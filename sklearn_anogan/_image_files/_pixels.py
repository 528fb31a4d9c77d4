# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What all readers of image files have in common."""

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Number of the tag that tells how a camera was held, and what turns the image upright.
ORIENTATION = 274
_TURNS = {
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}


class NoImageError(ValueError):
    """A file that is whole, but holds no image."""


@dataclass(frozen=True)
class Header:
    """What a file tells of its images.

    ``places`` has what its reader needs to find each of them.
    """

    places: tuple[Any, ...]
    dtype: np.dtype[Any]
    n_bands: int  # 1 for grey
    size: tuple[int, int]  # height and width of the first image
    is_own: bool = False  # a map that this library has drawn


def upright(values, orientation):
    """The image as a camera's orientation tag says that it is to be shown."""
    return _TURNS[orientation](values) if orientation in _TURNS else values


def upright_size(height, width, orientation):
    """Height and width of the upright image."""
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def highest(dtype):
    """The value of what is opaque, or of full light."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def is_band(alphas):
    """Whether the alpha of a file's images is a band of its own, like near infrared.

    Transparency is constant, or mostly none or complete.
    """
    n_pixels = n_ends = 0
    values = set()
    for alpha in alphas:
        low, high = alpha.min(), alpha.max()
        values |= {low.item(), high.item()}
        n_pixels += alpha.size
        n_ends += np.count_nonzero((alpha == 0) | (alpha == highest(alpha.dtype)))
    return len(values) > 1 and n_ends < n_pixels / 2


def before_black(values, alpha):
    """What is seen of the image (height, width, bands) where it is transparent."""
    top = highest(alpha.dtype)
    if alpha.min() == top:
        return values
    alpha = alpha[..., np.newaxis]
    if values.dtype == np.uint8 == alpha.dtype:
        # The nearest whole number to values * alpha / 255, without large arrays.
        product = values.astype(np.uint16) * alpha + np.uint16(128)
        return ((product + (product >> 8)) >> 8).astype(np.uint8)
    shown = values * (alpha / top)
    return (shown if values.dtype.kind == "f" else np.rint(shown)).astype(values.dtype)
