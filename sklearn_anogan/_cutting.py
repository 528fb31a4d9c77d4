# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How images are cut into patches, and maps of patches make the map of an image."""

from numbers import Integral

import numpy as np
from scipy.ndimage import zoom


class StitchedMap:
    """Maps of patches, blended into the map of an image.

    Parameters
    ----------
    shape : tuple (height, width)
    dtype : dtype of the map
    patch_shape, stride : tuples of two int
    """

    def __init__(self, shape, dtype, patch_shape, stride):
        self.map = np.zeros(shape, dtype)
        self.patch_shape, self.stride = patch_shape, stride
        self.window = [np.hanning(side + 2)[1:-1] for side in patch_shape]
        self.patch_window = np.outer(*self.window).astype(dtype)

    def add(self, corner, patch_map, downsampling):
        """Add the map of a shrunk patch at (top, left)."""
        enlarged = _enlarge(patch_map, downsampling)
        window = window_at(corner, self.patch_shape)
        self.map[window] += self.patch_window * enlarged

    def blended(self):
        """The map, once all patches are in."""
        for axis in (0, 1):
            weights = np.zeros(self.map.shape[axis], self.map.dtype)
            side, stride = self.patch_shape[axis], self.stride[axis]
            for begin in begins(len(weights), side, stride):
                weights[begin : begin + side] += self.window[axis]
            self.map /= np.expand_dims(weights, 1 - axis)
        return self.map


def draw_patches(images, index, patch_shape, downsampling, n_patches, rng):
    """Patches at random places of the images.

    Returns
    -------
    rows : ndarray of shape (n, n_values)
    numbers : ndarray of shape (n,)
        Of the images.
    """
    small = [side // downsampling for side in patch_shape]
    free = np.array([images.size(i) for i in index]) - patch_shape + 1
    n_places = free.prod(axis=1)
    takes_all = n_places.sum() <= n_patches
    n_patches = min(n_patches, n_places.sum())
    counts = rng.multinomial(n_patches, n_places / n_places.sum())
    if takes_all:
        counts = n_places
    dtype = (
        _dtype_of_means(images.patch_dtype) if downsampling > 1 else images.patch_dtype
    )
    patches = np.empty((n_patches, *small, images.n_channels), dtype)
    drawn = 0
    for i, (n_down, n_right), n_here in zip(index, free, counts, strict=True):
        image = images[i]
        corners = rng.randint((n_down, n_right), size=(n_here, 2))
        if takes_all:
            corners = np.argwhere(np.ones((n_down, n_right)))
        for corner in corners:
            patch = image[window_at(corner, patch_shape)][np.newaxis]
            images.check_finite(patch, [i])
            patches[drawn] = shrink(patch, downsampling)[0]
            drawn += 1
    return patches.reshape(n_patches, -1), np.repeat(index, counts)


def shrink(patches, factor):
    """Patches (n, height, width, channels) to the means of blocks of pixels."""
    if factor == 1:
        return patches
    n, height, width, n_channels = patches.shape
    blocks = (n, height // factor, factor, width // factor, factor, n_channels)
    means = patches.reshape(blocks).mean((2, 4))
    if patches.dtype.kind in "iu":  # uint8 stays what says that the range is 0 to 255
        means = np.rint(means)
    return means.astype(_dtype_of_means(patches.dtype))


def _dtype_of_means(dtype):
    return dtype if dtype.kind != "b" else np.dtype(np.float32)


def _enlarge(patch_map, factor):
    """The map of a shrunk patch in the pixels of the image, interpolated."""
    if factor == 1 or patch_map.size == 1:  # a score is the same everywhere
        return patch_map
    return zoom(patch_map, factor, order=1, mode="nearest", grid_mode=True)


def begins(length, side, stride):
    """Where patches begin along an axis; the last one ends with it."""
    found = list(range(0, length - side + 1, stride))
    if found[-1] < length - side:
        found.append(length - side)
    return found


def window_at(corner, patch_shape):
    """Slices of an image that cut out a patch."""
    return tuple(
        slice(begin, begin + side)
        for begin, side in zip(corner, patch_shape, strict=True)
    )


def pair(value, name):
    """A size given as one number or two, as two."""
    sides = (value, value) if isinstance(value, Integral) else tuple(value)
    if len(sides) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in sides):
        raise ValueError(
            f"{name} must be a whole number of at least 1 or two of them, (height, "
            f"width), got {value!r}."
        )
    return tuple(int(n) for n in sides)
