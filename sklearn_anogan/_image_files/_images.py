# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Images that are read from files when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._readers import ImageFile

#: Bytes of images that are kept in memory, so that files need not be decoded again.
_MOST_KEPT = 2**28

#: Numbers of images, or a mask.
_Several: TypeAlias = slice | Sequence[int] | NDArray[np.integer[Any] | np.bool_]


class ImageFiles:
    """Images that are read from their files when they are asked for.

    It behaves like an array (n, height, width) or (n, height, width, bands) if all
    images have one size, and like a list of images otherwise. ``np.asarray`` reads all.

    Attributes
    ----------
    paths : list of Path
        The file of each image. A file of many pages is there once for each page.
    left_out : dict
        Path -> reason, of what a folder holds besides, in the order of paths.
    shape : tuple
        Of all images together; only if all have one size.
    dtype : dtype
    """

    paths: list[Path]
    left_out: dict[Path, str]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(
        self,
        files: list[ImageFile],
        cache: Decoder,
        color: str,
        left_out: dict[Path, str],
    ) -> None:
        self._decoder = cache
        self.left_out = dict(sorted(left_out.items()))
        headers = [file.header for file in files]
        self._pages = [
            (file, page) for file in files for page in range(len(file.header.places))
        ]
        self.paths = [file.path for file, _ in self._pages]
        self.dtype = headers[0].dtype
        n_bands = max(header.n_bands for header in headers)
        self._n_bands = {"grey": 1, "rgb": 3}.get(color, n_bands)
        size = cache.size
        sizes = {size} if size else {header.size for header in headers}
        if len(sizes) == 1:
            bands = () if self._n_bands == 1 else (self._n_bands,)
            self.shape = (len(self), *sizes.pop(), *bands)

    def __len__(self) -> int:
        return len(self._pages)

    def __repr__(self) -> str:
        what = f"shape={self.shape}" if hasattr(self, "shape") else "of several sizes"
        return f"<{len(self)} images, {what}, dtype={self.dtype}>"

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: _Several) -> NDArray[Any] | list[NDArray[Any]]: ...
    def __getitem__(
        self, index: int | np.integer[Any] | _Several
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """One image, or those of a slice, of numbers or of a mask.

        Several images are an array if all images have one size, and a list otherwise.
        """
        numbers = np.arange(len(self))[index]  # and an IndexError beyond the end
        if np.ndim(numbers) == 0:
            return self._image(int(numbers))
        images = [self._image(int(i)) for i in numbers]
        if not hasattr(self, "shape"):
            return images
        return (
            np.stack(images) if images else np.empty((0, *self.shape[1:]), self.dtype)
        )

    def _image(self, i):
        file, page = self._pages[i]
        image = _in_color(self._decoder.image(file, page), self._n_bands > 1)
        if hasattr(self, "shape") and image.shape != self.shape[1:]:
            raise ValueError(
                f"Page {page} of {file.path} has the shape {image.shape}, but the "
                f"first page {self.shape[1:]}. Pass size, to give all images one size."
            )
        return image.copy()


class Decoder:
    """Images of files in one size, of which the first are kept in memory.

    Parameters
    ----------
    size : tuple (height, width) or None
        None leaves images as they are.
    is_grey : bool
        Whether to make all images grey.
    """

    def __init__(self, size, is_grey):
        self.size, self.is_grey = size, is_grey
        self._kept, self._n_bytes = {}, 0

    def image(self, file, page):
        """An image of an `ImageFile`, which is not to be written to."""
        if (file.path, page) in self._kept:
            return self._kept[file.path, page]
        image = file.read(page)
        if self.is_grey:
            image = _in_color(image, False)
        if self.size is not None:
            image = _resized(image, self.size)
        image = image.astype(file.header.dtype)
        if self._n_bytes + image.nbytes <= _MOST_KEPT:
            self._kept[file.path, page] = image
            self._n_bytes += image.nbytes
        return image

    def drop(self, path):
        """Keep no image of a file any more."""
        for key in [key for key in self._kept if key[0] == path]:
            self._n_bytes -= self._kept.pop(key).nbytes


def _in_color(image, is_color):
    """Grey or colours, whatever the file has; other bands stay as they are."""
    if is_color and image.ndim == 2:
        return np.repeat(image[..., np.newaxis], 3, axis=-1)
    if not is_color and image.ndim == 3 and image.shape[2] == 3:
        # The weights of brightness of ITU-R BT.601, as Pillow has them.
        grey = image @ np.array([0.299, 0.587, 0.114])
        return grey if image.dtype.kind == "f" else np.rint(grey).astype(image.dtype)
    return image


def _resized(image, size):
    """The image with another height and width, smoothed where it shrinks."""
    from PIL import Image

    def channel(values):
        one = Image.fromarray(values.astype(np.float32))
        return np.asarray(one.resize(size[::-1], Image.Resampling.BILINEAR))

    if image.shape[:2] == size:
        return image
    resized = (
        channel(image)
        if image.ndim == 2
        else np.stack([channel(each) for each in np.moveaxis(image, -1, 0)], axis=-1)
    )
    return resized if image.dtype.kind == "f" else np.rint(resized)
