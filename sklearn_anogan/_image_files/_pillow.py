# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Files that Pillow reads."""

import warnings
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np

from ._pixels import ORIENTATION, Header, before_black, is_band, upright, upright_size

#: Text in PNG files of maps that this library draws.
OWN = ("Software", "sklearn-anogan")

#: Formats of pixels. Others of Pillow's are stubs, run a program, or take much for an
#: image that is none.
_FORMATS = (
    "AVIF BMP DDS GIF HEIF JPEG JPEG2000 JXL MPO PNG PPM PSD QOI SGI SUN WEBP"
).split()

#: Formats whose first bytes do not tell enough, or are of icons.
_BY_SUFFIX = {
    ".cur": "CUR",
    ".dib": "DIB",
    ".icns": "ICNS",
    ".ico": "ICO",
    ".pcx": "PCX",
    ".tga": "TGA",
    ".xbm": "XBM",
    ".xpm": "XPM",
}

#: Formats whose further frames are images; those of others are previews or layers.
_WITH_PAGES = ("AVIF", "GIF", "PNG", "WEBP")

#: Mode -> type of the values; all other modes have 8 bits.
_TYPES = {"I;16": np.uint16, "I": np.int32, "F": np.float32}

_GREY_MODES = ("1", "L", "I;16", "I", "F")
_ALPHA_MODES = ("LA", "RGBA")


class _Place(NamedTuple):
    page: int
    has_bands: bool  # whether alpha is a band
    is_large: bool


def header(path):
    """The `Header` of a file; to be called where `large_allowed`.

    Raises
    ------
    PIL.UnidentifiedImageError
        If the file is no image that Pillow reads.
    """
    with opened(path) as image:
        n_pages = getattr(image, "n_frames", 1) if image.format in _WITH_PAGES else 1
        mode, (width, height) = _mode(image), image.size
        size = upright_size(height, width, _orientation(image))
        is_own = image.format == "PNG" and image.info.get(OWN[0]) == OWN[1]
        has_bands = mode in _ALPHA_MODES and not is_own
        has_bands = has_bands and is_band(_alphas(image, n_pages))
    if has_bands:
        n_bands = len(mode)
    else:
        n_bands = 1 if mode in (*_GREY_MODES, "LA", "La") else 3
    return Header(
        places=tuple(
            _Place(page, has_bands, is_large(width * height)) for page in range(n_pages)
        ),
        dtype=np.dtype(_TYPES.get(mode, np.uint8)),
        n_bands=n_bands,
        size=size,
        is_own=is_own,
    )


def read(path, place):
    """The values (height, width[, bands]) of an image."""
    with opened(path, place.is_large) as image:
        if place.page:
            image.seek(place.page)
        values = _values(image, place.has_bands)
        return upright(values, _orientation(image))


@contextmanager
def opened(path, may_be_large=False, formats=None):
    """An image of Pillow, if it may be large without a warning of its size."""
    from PIL import Image

    # Only where it is needed: other threads see the filter of warnings too.
    with large_allowed() if may_be_large else nullcontext():
        try:
            with Image.open(path, formats=formats or _formats(path)) as image:
                yield image
        except Image.DecompressionBombError as error:
            raise ValueError(
                f"{str(error).rstrip('.')}. If you trust the file, set "
                "PIL.Image.MAX_IMAGE_PIXELS = None"
            ) from error


@contextmanager
def large_allowed():
    """Without warnings of images that are large, but not too large for Pillow."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _formats(path):
    from PIL import Image

    Image.init()
    by_suffix = _BY_SUFFIX.get(path.suffix.lower())
    return [name for name in (*_FORMATS, by_suffix) if name in Image.OPEN]


def check_n_pixels(size):
    """Refuse what Pillow would refuse: a small file may claim to be a huge image."""
    from PIL import Image

    limit, n_pixels = 2 * (Image.MAX_IMAGE_PIXELS or np.inf), size[0] * size[1]
    if n_pixels > limit:
        raise ValueError(
            f"it has {n_pixels} pixels, and the limit is {limit}. If you trust the "
            "file, set PIL.Image.MAX_IMAGE_PIXELS = None"
        )


def is_large(n_pixels):
    """Whether Pillow warns of an image of this size."""
    from PIL import Image

    return n_pixels > (Image.MAX_IMAGE_PIXELS or np.inf)


def _orientation(image):
    if image.format == "PNG" and "exif" not in image.info:
        image.load()  # the tags may come last
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # the tags are damaged, the image need not be
        return 1


def _mode(image):
    """The mode, of 16 bits in any order of bytes; a palette is what it stands for."""
    if image.mode == "RGBA" and "LA;16B" in str(image.tile):
        return "LA"  # of 16 bits, which Pillow reads as colours
    if image.mode.startswith("I;16"):
        return "I;16"
    return "RGB" if image.mode in ("P", "PA") else image.mode


def _alphas(image, n_pages):
    for page in range(n_pages):
        if page:
            image.seek(page)
        if "A" in image.getbands():
            yield np.asarray(image.getchannel("A"))


def _values(image, has_bands):
    """The values of an image of Pillow, with black behind what is transparent."""
    if image.mode in ("La", "RGBa"):  # values are dark already where transparent
        values = np.asarray(image)[..., :-1]
        return values[..., 0] if image.mode == "La" else values
    mode, key = _mode(image), image.info.get("transparency")
    if mode == "I;16":
        values = np.asarray(image).astype(np.uint16)
        return values if key is None else np.where(values == key, np.uint16(0), values)
    if mode in _ALPHA_MODES and has_bands:
        return np.asarray(image.convert(mode))
    if mode in _ALPHA_MODES or image.mode == "PA" or key is not None:
        is_grey = mode in ("1", "L", "LA")
        image = image.convert("L") if image.mode == "1" else image
        values = np.asarray(image.convert("LA" if is_grey else "RGBA"))
        shown = before_black(values[..., :-1], values[..., -1])
        return shown[..., 0] if is_grey else shown
    if mode == "1":
        return np.asarray(image.convert("L"))
    if mode in _GREY_MODES or image.mode == "RGB":
        return np.asarray(image)
    return np.asarray(image.convert("RGB"))
