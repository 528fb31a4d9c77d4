# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Images of files, with the values that the files hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: What files in a folder are taken for images by; other files are left out.
SUFFIXES = frozenset(
    ".bmp .dcm .dicom .gif .jp2 .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff "
    ".webp".split()
)
_DICOM = {".dcm", ".dicom"}

#: Number of the tag that tells how a camera was held, and what turns the image upright.
_ORIENTATION = 274
_TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}

#: Bytes of images that are kept in memory, so that files need not be decoded again.
_MOST_KEPT = 2**28

#: Mode of Pillow -> type of the values; all other modes have 8 bits.
_TYPES = {"I;16": np.uint16, "I": np.int32, "F": np.float32}

_GREY_MODES = ("1", "L", "I;16", "I", "F")

#: Numbers of images, or a mask.
_Several: TypeAlias = slice | Sequence[int] | NDArray[np.integer[Any] | np.bool_]


class ImageFiles:
    """Images that are read from their files when they are asked for.

    It behaves like an array (n, height, width) or (n, height, width, 3) if all images
    have one size, and like a list of images otherwise. ``np.asarray`` reads all.

    Attributes
    ----------
    paths : list of Path
        The file of each image. A file of many pages is there once for each page.
    shape : tuple
        Of all images together; only if all have one size.
    dtype : dtype
    """

    paths: list[Path]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _kept: dict[int, NDArray[Any]]

    def __init__(
        self, paths: list[Path], size: tuple[int, int] | None, color: str
    ) -> None:
        found = [_Header(path) for path in paths]
        self._pages = [(h.path, page) for h in found for page in range(h.n_pages)]
        self.paths = [path for path, _ in self._pages]
        self._size, self._kept, self._n_bytes = size, {}, 0
        self.dtype = _common_type(found)
        self._is_color = color == "rgb" or (
            color == "auto" and any(header.is_color for header in found)
        )
        sizes = {header.size for header in found} if size is None else {size}
        if len(sizes) == 1:
            of_image = (*sizes.pop(), 3) if self._is_color else sizes.pop()
            self.shape = (len(self), *of_image)

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
        if i in self._kept:
            return self._kept[i].copy()
        path, page = self._pages[i]
        try:
            image = _in_color(_read(path, page), self._is_color)
            if self._size is not None:
                image = _resized(image, self._size)
        except Exception as error:  # a damaged file may provoke any
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        image = image.astype(self.dtype)
        if hasattr(self, "shape") and image.shape != self.shape[1:]:
            raise ValueError(
                f"Page {page} of {path} has the shape {image.shape}, but the first "
                f"page {self.shape[1:]}. Pass size, to give all images one size."
            )
        if self._n_bytes + image.nbytes <= _MOST_KEPT:
            self._kept[i], self._n_bytes = image, self._n_bytes + image.nbytes
        return image.copy()


class _Header:
    """What a file tells of its images before they are decoded."""

    def __init__(self, path):
        self.path = path
        try:
            if path.suffix.lower() in _DICOM:
                self._take(_dicom_pages(path))
                return
            with _opened(path) as image:
                if image is None:
                    self._take(_tiff_pages(path))
                    return
                self.n_pages = getattr(image, "n_frames", 1)
                self.is_color = _mode(image) not in (*_GREY_MODES, "LA", "La")
                self.dtype = np.dtype(_TYPES.get(_mode(image), np.uint8))
                self.size = _upright_size(image)
                if image.format == "TIFF":
                    for page in range(1, self.n_pages):
                        image.seek(page)
                        dtype = np.dtype(_TYPES.get(_mode(image), np.uint8))
                        _check_pages({self.dtype, dtype})
        except ImportError:
            raise
        except Exception as error:  # a damaged file may provoke any
            raise ValueError(f"{path} cannot be read as an image: {error}") from error

    def _take(self, pages):
        _check_pages({page.dtype for page in pages})
        self.n_pages, self.dtype = len(pages), pages[0].dtype
        self.is_color, self.size = pages[0].ndim == 3, pages[0].shape[:2]


def _check_pages(dtypes):
    if len(dtypes) > 1:
        one, other, *_ = sorted(map(str, dtypes))
        raise ValueError(f"its pages have values of types {one} and {other}")


@contextmanager
def _opened(path):
    """The image of Pillow, or None if it is a TIFF file that is beyond Pillow."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise
        yield None
        return
    with image:
        yield None if _is_beyond_pillow(image) else image


def find_files(folder):
    """The image files of a folder in the order of their names, or the paths given."""
    if isinstance(folder, Iterable) and not isinstance(folder, str):
        return [Path(path) for path in folder]
    if not isinstance(folder, str | Path):
        raise TypeError(
            f"load_images needs a folder or an iterable of paths, got {folder!r}."
        )
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder or file {folder}.")
    if folder.is_file():
        return [folder]
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def _common_type(headers):
    first = headers[0]
    for header in headers:
        if header.dtype != first.dtype:
            raise ValueError(
                f"{header.path} has values of type {header.dtype}, and {first.path} of "
                f"type {first.dtype}: their scales differ. Load the files of one type, "
                "or convert them."
            )
    return first.dtype


def _read(path, page):
    """The values (height, width) or (height, width, channels) of a page."""
    if path.suffix.lower() in _DICOM:
        return _dicom_pages(path)[page]
    with _opened(path) as image:
        if image is None:
            return _tiff_pages(path)[page]
        if page:
            image.seek(page)
        return _values(_upright(image))


def _is_beyond_pillow(image):
    """Whether Pillow would change the values of a TIFF file, or not turn it upright."""
    tags = getattr(image, "tag_v2", {})
    bits = max(np.atleast_1d(tags.get(258, 8)))  # BitsPerSample
    kind = max(np.atleast_1d(tags.get(339, 1)))  # SampleFormat: 1 unsigned, 2 signed
    is_wide = image.mode in ("RGB", "RGBA", "RGBX") and bits > 8
    is_other = (bits, kind) in ((8, 2), (32, 1))
    return is_wide or is_other or tags.get(_ORIENTATION, 1) != 1


def _upright(image):
    """The image as a camera's orientation tag says that it is to be shown."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _upright_size(image):
    """Height and width of the upright image, which is not decoded for this."""
    width, height = image.size
    is_turned = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    return (width, height) if is_turned else (height, width)


def _mode(image):
    """The mode, of 16 bits in any order of bytes; a palette is what it stands for."""
    if image.mode.startswith("I;16"):
        return "I;16"
    return "RGB" if image.mode in ("P", "PA") else image.mode


def _values(image):
    """The values of an image of Pillow, with alpha as black behind the image."""
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        image.mode == "P" and "transparency" in image.info
    )
    if has_alpha:
        is_grey = image.mode in ("LA", "La")
        values = np.asarray(image.convert("RGBA"), dtype=np.float64)
        shown = np.rint(values[..., :3] * values[..., 3:] / 255).astype(np.uint8)
        return shown[..., 0] if is_grey else shown
    if _mode(image) == "I;16":
        return np.asarray(image).astype(np.uint16)
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in _GREY_MODES or image.mode == "RGB":
        return np.asarray(image)
    return np.asarray(image.convert("RGB"))


def _tiff_pages(path):
    """Pages of a TIFF file that is beyond Pillow."""
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(f"To read {path}, install tifffile.") from error
    found = []
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            if page.photometric not in (1, 2):
                kind = page.photometric.name
                raise ValueError(f"its colours are {kind}: convert it to grey or RGB")
            values, tag = page.asarray(), page.tags.get(_ORIENTATION)
            if values.ndim == 3 and page.planarconfig == 2:  # colours one by one
                values = np.moveaxis(values, 0, -1)
            values = values[..., :3] if values.ndim == 3 else values
            values = values.astype(values.dtype.newbyteorder("="))
            found.append(_TURNS[1 if tag is None else int(tag.value)](values))
    return found


def _dicom_pages(path):
    """Frames of a DICOM file, in the units that the file names."""
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(f"To read {path}, install pydicom.") from error
    data = pydicom.dcmread(path)
    values = np.asarray(data.pixel_array, dtype=np.float32)
    values = values * np.float32(getattr(data, "RescaleSlope", 1))
    values = values + np.float32(getattr(data, "RescaleIntercept", 0))
    return values if int(getattr(data, "NumberOfFrames", 1) or 1) > 1 else [values]


def _in_color(image, is_color):
    """Grey or colours, whatever the file has."""
    if is_color and image.ndim == 2:
        return np.repeat(image[..., np.newaxis], 3, axis=-1)
    if not is_color and image.ndim == 3:
        # The weights of brightness of ITU-R BT.601, as Pillow has them.
        grey = image[..., :3] @ np.array([0.299, 0.587, 0.114])
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
