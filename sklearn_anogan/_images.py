# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The user's arrays as images: layout, reading block by block.

Inside the library an image is a tensor (channels, height, width) in [-1, 1]. A row of
numbers is an image of one pixel with a channel for each feature. Only this file knows
the layout and the units of the user's arrays.
"""

import copy
from dataclasses import dataclass, replace
from math import prod
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import assert_all_finite, check_array
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ._sources import PiecewiseArray, check_source, is_read_in_pieces
from ._warnings import warn_user

#: Numbers read at once when all of X is looked through, 8 MB as float64.
_BLOCK_VALUES = 2**20

#: Numbers that shrunk training images may have to be kept in memory, 256 MB as float32.
_MOST_KEPT = 2**26


@dataclass(frozen=True)
class Layout:
    """How one image lies in the user's array."""

    image_shape: tuple  # (height, width), (height, width, channels) or (n_features,)
    shape: tuple  # of one image in the user's array
    chw: tuple  # (channels, height, width)
    channels_first: bool  # torch's order rather than scikit-image's
    device: torch.device | None  # of a tensor; None for an array
    dtype: torch.dtype  # of answers: float32 if it holds X exactly, or float64

    kind = "images"  # what the built-in networks are chosen by
    has_places = True  # whether a value has neighbours

    def on_cpu(self):
        """The same layout, with tensors on the CPU."""
        return replace(self, device=self.device and torch.device("cpu"))

    def of_maps(self):
        """The layout of maps: one channel for each pixel."""
        return replace(self, shape=self.chw[1:], channels_first=True)

    def to_map(self, values):
        """Values (n, channels, height, width) as maps in the layout `of_maps`."""
        return values.mean(1, keepdim=True)

    def known_range(self, dtype):
        """The lowest and the highest value that this dtype stands for, or None."""
        return (0, 255) if dtype in (np.uint8, torch.uint8) else None

    def restore(self, images):
        """Images (n, channels, height, width) in the user's layout.

        The answer is floating point for integer images too, so that differences of
        unsigned integers cannot wrap around.
        """
        if not self.channels_first:
            images = images.movedim(1, -1)
        images = images.reshape(len(images), *self.shape)
        images = images.to(self.dtype)
        return images.numpy() if self.device is None else images.to(self.device)


class RowLayout(Layout):
    """How a row of numbers lies in the user's array: a map has a value per feature."""

    kind = "rows"
    has_places = False

    def of_maps(self):
        return self

    def to_map(self, values):
        return values

    def known_range(self, dtype):
        return None  # a feature of small whole numbers is no grey level


def make_layout(image_shape, **fields):
    """The layout of images or of rows; an image shape of one number means rows."""
    kind = RowLayout if len(image_shape) == 1 else Layout
    return kind(tuple(image_shape), **fields)


class Images:
    """The user's checked array, read as images on demand and never copied whole.

    Parameters
    ----------
    data : ndarray or tensor of shape (n, ...)
        Finite numbers.
    image_shape : tuple or None
        (n_features,), (height, width) or (height, width, channels); None takes it from
        ``data``.
    estimator_name : str
        For messages.

    Raises
    ------
    ValueError
        If ``data`` does not hold images of this shape.
    """

    def __init__(self, data, image_shape, estimator_name):
        self.data = data
        self.limits = None
        self.layout = _find_layout(data, image_shape, estimator_name)

    def __len__(self):
        return len(self.data)

    def read(self, index):
        """Images at ``index`` in the user's units, float64 (n, channels, h, w)."""
        block = self.data[index]
        if isinstance(block, torch.Tensor):
            block = block.detach().double()
        else:
            block = torch.from_numpy(np.array(block, dtype=np.float64, order="C"))
        channels, height, width = self.layout.chw
        if self.layout.channels_first:
            block = block.reshape(-1, channels, height, width)
        else:
            block = block.reshape(-1, height, width, channels).movedim(-1, 1)
        # The same order in memory for every layout, with strides of sides of one pixel
        # too: sums and convolutions round by this order.
        block = block.contiguous()
        if 1 in block.shape:  # torch takes any strides of such sides for contiguous
            block = block.clone(memory_format=torch.contiguous_format)
        return block if self.limits is None else self.limits.clip(block)

    def clipped(self, value_range):
        """The same images, with no value outside a `ValueRange`; None clips none."""
        clipped = copy.copy(self)
        clipped.limits = value_range
        return clipped

    def block_size(self):
        """Number of images to read at once."""
        return max(1, _BLOCK_VALUES // prod(self.layout.chw))

    def blocks(self):
        """Yield all images in blocks, as `read` gives them."""
        size = self.block_size()
        for start in range(0, len(self), size):
            yield self.read(slice(start, start + size))


class TrainingImages(torch.utils.data.Dataset):
    """Images as a data set that hands out whole batches, scaled for the networks.

    Torch's loader asks for a batch at a time through ``__getitems__``: no Python loop
    runs over images.

    Parameters
    ----------
    images : Images
    value_range : ValueRange
    device : torch.device
    index : ndarray of shape (n,) or None
        Which of the images; None for all.
    size : tuple (height, width) or None
        What the images are shrunk to; None leaves them as they are.
    """

    def __init__(self, images, value_range, device, index=None, size=None):
        self.images = images
        self.size = size or images.layout.chw[1:]
        self.kept = None
        self.index = np.arange(len(images)) if index is None else index
        self.value_range = value_range
        self.device = device

    def __len__(self):
        return len(self.index)

    def blocks(self):
        """Yield all images in blocks."""
        size = self.images.block_size()
        for start in range(0, len(self), size):
            yield self.__getitems__(slice(start, start + size))

    def keep_if_small(self):
        """Keep the images in memory if they are small, and return the data set.

        An epoch would spend more time on reading them again than on training. Images
        that are shrunk take longer to read, and may take more memory.
        """
        channels, *size = self.images.layout.chw
        is_shrunk = tuple(size) != tuple(self.size)
        n_values = len(self) * channels * prod(self.size)
        if n_values <= (_MOST_KEPT if is_shrunk else _BLOCK_VALUES):
            self.kept = torch.cat([*self.blocks()])
        return self

    def __getitem__(self, number):
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers):
        if self.kept is not None:
            return self.kept[numbers]
        images = self.images.read(self.index[numbers])
        return resized(self.value_range.to_network(images, self.device), self.size)


def within(height, width, longest):
    """Height and width, reduced in proportion so that no side is above ``longest``."""
    if max(height, width) <= longest:
        return height, width
    scale = longest / max(height, width)
    return tuple(max(1, round(scale * side)) for side in (height, width))


def resized(x, size):
    """Images (n, channels, height, width) of another height and width.

    Pixels of shrunk images are means over areas; those of enlarged images are
    interpolated.
    """
    if x.shape[2:] == size:
        return x
    if size[0] <= x.shape[2] and size[1] <= x.shape[3]:
        return adaptive_avg_pool2d(x, size)
    # With several channels, torch rounds by how many threads there are.
    planes = interpolate(x.flatten(0, 1)[:, None], size=size, mode="bilinear")
    return planes.reshape(*x.shape[:2], *size)


def check_images(X, image_shape, *, n_features, min_samples, estimator_name):
    """Check the user's X, without copying it, and wrap it as images.

    Parameters
    ----------
    X : array-like, data frame, tensor or list of images
    image_shape : tuple or None
        As in `Images`.
    n_features : int or None
        Numbers in an image, if known, for scikit-learn's own message about rows.
    min_samples : int
        Fewest images accepted.
    estimator_name : str
        For messages.

    Returns
    -------
    images : Images

    Raises
    ------
    ValueError, TypeError
        If X is not numeric, real, dense and finite, or has other shapes than wanted.
    """
    check_source(X, estimator_name)
    X = _stack(X, estimator_name)
    if is_read_in_pieces(X):
        X = PiecewiseArray(X, estimator_name)
        _check_pieces(X, min_samples, estimator_name)
    elif isinstance(X, torch.Tensor):
        X = _check_tensor(X, min_samples, estimator_name)
    else:
        X = check_array(
            X,
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=min_samples,
            estimator=estimator_name,
            input_name="X",
        )
        if X.ndim == 2 and image_shape is None:
            # Rows, for which scikit-learn's advice is good.
            assert_all_finite(X, input_name="X", estimator_name=estimator_name)
        else:
            _check_finite(X, estimator_name)
    if X.ndim == 2 and n_features not in (None, X.shape[1]):
        raise ValueError(
            f"X has {X.shape[1]} features, but {estimator_name} is expecting "
            f"{n_features} features as input.{_hint_of_one(X, image_shape)}"
        )
    return Images(X, image_shape, estimator_name)


def tell_of_channels_first(layout, is_given):
    """Warn of arrays that look as if channels came first, and of tensors if last.

    Parameters
    ----------
    layout : Layout
    is_given : bool
        Whether the user has named the shape by ``image_shape``.
    """
    shape = layout.image_shape
    if len(shape) != 3:
        return
    n_channels, height, width = layout.chw
    if layout.channels_first:
        if width in (1, 3, 4) and min(n_channels, height) > 4:
            warn_user(
                f"Tensors of the shape {layout.chw} are taken for (channels, height, "
                f"width): {n_channels} channels, {width} pixels wide. If their "
                "channels come last, pass X.movedim(-1, 1)."
            )
    elif height in (1, 3, 4) and min(width, n_channels) > 4:
        advice = (
            f"use image_shape={(width, n_channels, height)}, and flatten such images"
            if is_given
            else "pass np.moveaxis(X, 1, -1), or a tensor of torch"
        )
        warn_user(
            f"Images of the shape {shape} are taken for (height, width, channels): "
            f"{height} pixels high, with {n_channels} channels. If their channels come "
            f"first, {advice}."
        )


def check_image_shape(image_shape):
    """Check the parameter ``image_shape`` and return it as a tuple of int.

    Raises
    ------
    ValueError
        If it is not (height, width) or (height, width, channels), all positive.
    """
    if image_shape is None:
        return None
    is_shape = len(image_shape) in (2, 3) and all(
        isinstance(side, Integral) and side >= 1 for side in image_shape
    )
    if not is_shape:
        raise ValueError(
            "image_shape must be (height, width) or (height, width, channels), whole "
            f"numbers of at least 1, got {image_shape!r}."
        )
    return tuple(int(side) for side in image_shape)


def _stack(X, estimator_name):
    """Turn a list of images into one array or tensor; leave everything else alone."""
    is_column = getattr(X, "ndim", None) == 1 and X.dtype == object  # or a series
    if not (isinstance(X, list | tuple) or is_column):
        return X
    X = list(X)
    shapes = sorted({tuple(np.shape(image)) for image in X})
    if len(shapes) > 1:
        raise ValueError(
            f"{estimator_name} needs images of one shape, X has "
            f"{', '.join(map(str, shapes[:5]))}. Resize or crop them first."
        )
    if X and all(isinstance(image, torch.Tensor) for image in X):
        return torch.stack(X)
    return X


def _check_pieces(X, min_samples, estimator_name):
    """What `check_array` does for arrays, block by block."""
    if X.dtype.kind not in "buif":
        raise ValueError(
            f"X has values of type {X.dtype}, but {estimator_name} needs real numbers."
        )
    if X.ndim < 2 or len(X) < min_samples or prod(X.shape) == 0:
        raise ValueError(
            f"Found array with {len(X)} sample(s) (shape={X.shape}) while a minimum of "
            f"{min_samples} is required by {estimator_name}, none empty."
        )
    _check_finite(X, estimator_name)


def _check_finite(X, estimator_name):
    """Look for NaN and infinity in an array, block by block."""
    if X.dtype.kind != "f" or 0 in X.shape:
        return
    size = max(1, _BLOCK_VALUES // prod(X.shape[1:]))
    for start in range(0, len(X), size):
        _refuse_missing(np.isfinite(X[start : start + size]), start, estimator_name)


def _refuse_missing(is_finite, start, estimator_name):
    """Refuse NaN and infinity, by the number of the first sample that has any."""
    if not is_finite.all():
        is_whole = is_finite.reshape(len(is_finite), -1).all(1)
        raise ValueError(
            f"Input X contains NaN or infinity, first in sample "
            f"{start + [*is_whole].index(False)}. {estimator_name} needs finite "
            "values: replace them, or leave such samples out."
        )


def _check_tensor(X, min_samples, estimator_name):
    """What `check_array` does for arrays, block by block and on the tensor's device."""
    if X.layout != torch.strided:
        raise TypeError(
            f"Sparse data was passed for X, but {estimator_name} needs dense data. Use "
            "X.to_dense()."
        )
    if X.is_complex():
        raise ValueError(f"Complex data not supported, got a tensor of {X.dtype}.")
    if X.ndim < 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D tensor instead.")
    if len(X) < min_samples or X.numel() == 0:
        raise ValueError(
            f"Found tensor with {len(X)} sample(s) (shape={tuple(X.shape)}) while a "
            f"minimum of {min_samples} is required by {estimator_name}, none empty."
        )
    X = X.detach()
    size = max(1, _BLOCK_VALUES // prod(X.shape[1:]))
    for start in range(0, len(X), size):
        _refuse_missing(X[start : start + size].isfinite(), start, estimator_name)
    return X


def _find_layout(data, image_shape, estimator_name):
    """Layout of one image of ``data``, with the image shape as given or as found."""
    is_tensor = isinstance(data, torch.Tensor)
    shape = tuple(data.shape[1:])
    channels_first = is_tensor and len(shape) == 3
    found = (*shape[1:], shape[0]) if channels_first else shape
    if not 1 <= len(shape) <= 3 or 0 in shape:
        order = "channels, height, width" if is_tensor else "height, width, channels"
        raise ValueError(
            f"X has {data.ndim} dimensions, its shape is {tuple(data.shape)}. "
            f"{estimator_name} takes images (n, {order}) or (n, height, width), or "
            "rows (n, n_features), none of them empty."
        )
    if image_shape is None:
        image_shape = found
    chw = _to_chw(image_shape)
    if len(shape) == 1 and shape[0] != prod(chw):
        raise ValueError(
            f"X has {shape[0]} features, but image_shape={image_shape} of "
            f"{estimator_name} needs rows of {prod(chw)}."
        )
    if len(shape) > 1 and _to_chw(found) != chw:
        expected = (
            f"rows of {chw[0]} features: flatten the images"
            if len(image_shape) == 1
            else f"images of shape {image_shape}, (height, width[, channels])"
        )
        raise ValueError(
            f"X has images of shape {found}, but {estimator_name} expects {expected}."
            f"{_hint_of_one(data, image_shape)}{_hint_of_order(found, image_shape)}"
        )
    if is_tensor:
        fits_float32 = data.dtype.itemsize <= (4 if data.is_floating_point() else 2)
    else:
        fits_float32 = np.result_type(data.dtype, np.float32) == np.float32
    return make_layout(
        image_shape,
        shape=shape,
        chw=chw,
        channels_first=channels_first,
        device=data.device if is_tensor else None,
        dtype=torch.float32 if fits_float32 else torch.float64,
    )


def _hint_of_one(X, image_shape):
    """What to say of an X that has the shape of one image."""
    if image_shape is not None and tuple(X.shape) == tuple(image_shape):
        return " If X is a single image, pass X[None]."
    return ""


def _hint_of_order(found, image_shape):
    """What to say of images that have the shape wanted, but in another order."""
    height, width, *channels = *image_shape, 1  # type: ignore[misc]
    if len(image_shape) > 1 and found == (channels[0], height, width):
        return (
            " If the channels come first, pass np.moveaxis(X, 1, -1), or a tensor of "
            "torch."
        )
    return ""


def _to_chw(image_shape):
    """(n_features,), (height, width) or (height, width, channels) -> (c, h, w)."""
    if len(image_shape) == 1:
        return (image_shape[0], 1, 1)
    height, width, *channels = image_shape
    return (*(channels or [1]), height, width)
