# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a user may hand over as images: lists, collections, arrays read in pieces.

Arrays in memory, memory maps and tensors need nothing of this file.
"""

from collections.abc import Iterator, Mapping, Sized
from pathlib import Path

import numpy as np
import scipy.sparse
import torch


class PiecewiseArray:
    """Images that are read only where they are asked for, and kept nowhere.

    Parameters
    ----------
    source : object
        With shape, dtype and slices, as arrays of h5py, zarr, dask and xarray have
        them; or a sequence of images of one shape, such as scikit-image's
        ``ImageCollection``.
    estimator_name : str
        For messages.
    """

    def __init__(self, source, estimator_name):
        self.source, self.name = source, estimator_name
        self.has_slices = hasattr(source, "shape")
        like = source
        if not self.has_slices:
            like = self._image(0)
        n = source.shape[0] if self.has_slices else len(source)
        shape = source.shape[1:] if self.has_slices else like.shape
        self.shape, self.dtype = (int(n), *map(int, shape)), np.dtype(like.dtype)

    @property
    def ndim(self):
        return len(self.shape)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        """The images at an index, a slice or several indices, as an ndarray."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        numbers = np.atleast_1d(index)
        if self.has_slices:
            # Not all sources take several indices, but all take slices.
            runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
            parts = [self.source[int(r[0]) : int(r[-1]) + 1] for r in runs if len(r)]
            parts = [np.asarray(part) for part in parts]
            none = np.empty((0, *self.shape[1:]), self.dtype)
            images = np.concatenate([none, *parts])
        else:
            images = np.stack([self._image(i) for i in numbers])
        return images[0] if np.ndim(index) == 0 else images

    def _image(self, i):
        image = as_array(self.source[int(i)], i, self.name)
        if hasattr(self, "shape") and image.shape != self.shape[1:]:
            raise ValueError(
                f"{self.name} needs images of one shape, but image {i} of X has "
                f"{image.shape} and image 0 {self.shape[1:]}. Resize or crop them."
            )
        if hasattr(self, "dtype"):
            check_types({kind_of(self): 0, kind_of(image): i})
        return image


def as_array(image, i, estimator_name):
    """An image as an array, with channels last; i is its number in X, for messages."""
    if isinstance(image, tuple | Mapping):
        raise TypeError(
            f"Item {i} of X is a {type(image).__name__}, not an image. If it holds an "
            "image and a label, pass the images alone, for example as "
            "[image for image, label in X]."
        )
    _check_mask(image, estimator_name)
    if getattr(image, "mode", None) in ("P", "PA") and hasattr(image, "getpalette"):
        raise ValueError(
            f"Image {i} of X has a palette: its values are numbers of colours, which "
            f"{estimator_name} would take for brightness. Use image.convert('RGB')."
        )
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        return (image.movedim(0, -1) if image.ndim == 3 else image).numpy()
    return np.asarray(image)


def is_read_in_pieces(X):
    """Whether X is an array that is not in memory, or a collection of images."""
    if isinstance(X, np.ndarray | torch.Tensor | list | tuple | str | Mapping):
        return False
    if scipy.sparse.issparse(X) or not hasattr(X, "__getitem__"):
        return False
    shape = getattr(X, "shape", None)
    if shape is None:  # a collection, but no data frame of any library
        return isinstance(X, Sized) and not hasattr(X, "columns")
    try:
        np.dtype(X.dtype)
    except (AttributeError, TypeError):  # a data frame, or an array of another library
        return False
    return isinstance(shape, tuple) and len(shape) >= 2


def is_column_of_images(X):
    """Whether X is an array or a series of objects, one for each image."""
    is_column = getattr(X, "ndim", None) == 1 and X.dtype == np.dtype(object)
    return is_column and len(X) > 0 and np.ndim(next(iter(X[:1]))) > 1


def check_source(X, estimator_name):
    """Refuse what only looks like images, and say what would work.

    Raises
    ------
    TypeError, ValueError
    """
    what = None
    is_list = isinstance(X, list | tuple)
    if isinstance(X, str | Path) or (is_list and X and isinstance(X[0], str | Path)):
        what = "file names. Use sklearn_anogan.datasets.load_images to read them"
    elif isinstance(X, torch.utils.data.DataLoader):
        what = "a DataLoader. Pass all images as one array, tensor or list"
    elif isinstance(X, Iterator):
        what = "an iterator, which can be read only once. Pass list(X)"
    elif is_list and X and isinstance(X[0], tuple) and np.ndim(X[0][0]) >= 2:
        what = "tuples of an image and more. Pass a list of the images alone"
    elif found := _sequences_in_a_frame(X):
        what = f"a frame of lists or arrays. Pass {found}"
    if what:
        raise TypeError(f"{estimator_name} needs images, but X is or holds {what}.")
    _check_mask(X, estimator_name)
    _check_times(X, "X", estimator_name)
    _check_columns(X, estimator_name)
    if is_list or is_column_of_images(X):
        _check_list(X, estimator_name)


def _check_mask(X, estimator_name):
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            f"X is or holds a masked array with masked values, which {estimator_name} "
            "cannot leave out. Use X.filled(value), or leave out such images."
        )


def _check_times(values, what, estimator_name):
    """Refuse dates and spans of time, which numpy would not turn into numbers."""
    dtype = getattr(values, "dtype", None)
    if getattr(dtype, "kind", "") in ("m", "M"):
        raise TypeError(_needs_numbers(estimator_name, what, dtype))


def _check_columns(X, estimator_name):
    """Refuse columns of a data frame that are no numbers, by name."""
    for i, name in enumerate(getattr(X, "columns", ())):
        column = X.iloc[:, i] if hasattr(X, "iloc") else X[name]
        if getattr(column.dtype, "kind", "O") in "biufc":
            continue
        what, values = f"column {name!r} of X", np.asarray(column)
        _check_times(values, what, estimator_name)
        try:
            values.astype(float)
        except (TypeError, ValueError) as error:
            message = _needs_numbers(estimator_name, what, column.dtype, f": {error}")
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(message) from error


def _needs_numbers(estimator_name, what, dtype, detail=""):
    """Message for values that are no numbers, with what would work."""
    kind = str(dtype).lower()
    if "timedelta" in kind:
        advice = "such as seconds, by dividing it by numpy.timedelta64(1, 's')"
    elif "date" in kind or "period" in kind:
        advice = "such as seconds since the first of its times"
    else:
        advice = "for example by sklearn.preprocessing.OneHotEncoder"
    return (
        f"{estimator_name} needs numbers, but {what} holds values of type {dtype}"
        f"{detail}. Leave it out, or make numbers of it, {advice}."
    )


def _sequences_in_a_frame(X):
    """How to get at images in a frame or a series of pandas or polars; or None."""
    if not hasattr(X, "to_numpy") or len(X) == 0:
        return None
    for name in getattr(X, "columns", ()):
        if np.ndim(next(iter(X[name]))) > 0:
            return f"X[{name!r}].to_list()"
    if hasattr(X, "columns") or isinstance(X.dtype, np.dtype):
        return None
    has_sequences = np.ndim(next(iter(X))) > 0 and np.ndim(np.asarray(X)) == 1
    return "X.to_list()" if has_sequences else None


def _check_list(X, estimator_name):
    kinds = {}
    for i, image in enumerate(X):
        if hasattr(image, "getpalette"):
            as_array(image, i, estimator_name)
        _check_mask(image, estimator_name)
        _check_times(image, f"image {i} of X", estimator_name)
        if kind := kind_of(image):
            kinds.setdefault(kind, i)
    check_types(kinds)


def check_types(kinds):
    """Refuse more than one type; ``kinds`` has a number of an image for each."""
    if len(kinds) > 1:
        (one, i), (other, j), *_ = kinds.items()
        raise ValueError(
            f"X mixes types of images: image {i} is of type {one}, and image {j} of "
            f"type {other}. Their values may have other scales. Convert all images to "
            "one type and scale."
        )


def kind_of(image):
    """The type of an image's numbers, all floating-point types alike; or None."""
    dtype = getattr(image, "dtype", None)
    if hasattr(image, "getpalette"):  # an image of Pillow
        dtype = np.asarray(image).dtype
    if isinstance(dtype, torch.dtype):
        is_float, is_number = dtype.is_floating_point, not dtype.is_complex
    elif isinstance(dtype, np.dtype):
        is_float, is_number = dtype.kind == "f", dtype.kind in "buif"
    else:
        return None
    if not is_number or getattr(image, "ndim", 2) < 2:
        return None
    return "floating point" if is_float else str(dtype)
