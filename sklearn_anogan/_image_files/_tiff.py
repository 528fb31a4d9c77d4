# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""TIFF files: tifffile finds their images and reads most, Pillow reads the rest."""

import struct
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ._pillow import is_large as is_large_for_pillow
from ._pillow import opened as opened_by_pillow
from ._pixels import (
    ORIENTATION,
    Header,
    NoImageError,
    before_black,
    highest,
    is_band,
    upright,
    upright_size,
)

#: Kinds of files whose axes are named: channels are bands, all others are images.
_WITH_AXES = {"fluoview", "imagej", "lsm", "micromanager", "ome", "shaped", "stk"}

#: Kinds of whole slides. The first series is the slide, the others are its label and
#: pictures of it.
_SLIDES = {"bif", "ndpi", "philips", "qpi", "scn", "svs", "ventana"}

#: PhotometricInterpretation
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR, _LAB = (
    *range(7),
    8,
)
_BASE_BANDS = {_RGB: 3, _CMYK: 4, _YCBCR: 3, _LAB: 3}

#: ExtraSamples: alpha that the values have been multiplied with, and other alpha.
_MULTIPLIED, _ALPHA = 1, 2


@dataclass(frozen=True)
class _Place:
    """Where an image is: the pages of its channels, or bytes behind a page."""

    pages: tuple[tuple[int, int], ...]  # number of each page, and its first byte
    offsets: tuple[int, ...] | None = None
    has_bands: bool = False  # whether alpha is a band


def header(path):
    """The `Header` of a file."""
    with _opened(path) as file:
        places = _places(file)
        if not places:
            raise NoImageError("it holds no whole image, only masks or reduced ones")
        _check_is_whole(file, places)
        kinds = {}
        for place in places:
            page = _page(file, place.pages[0])
            kinds.setdefault((page.hash, len(place.pages)), (page, place))
        if any(_alpha(page) is not None for page, _ in kinds.values()):
            has_bands = is_band(_alphas(path, file, places))
            places = [replace(place, has_bands=has_bands) for place in places]
            kinds = {
                key: (page, replace(place, has_bands=has_bands))
                for key, (page, place) in kinds.items()
            }
        page = _page(file, places[0].pages[0])
        return Header(
            places=tuple(places),
            dtype=_the_one("types", {_type(page) for page, _ in kinds.values()}),
            n_bands=_the_one(
                "numbers of bands", {_n_bands(*each) for each in kinds.values()}
            ),
            size=upright_size(page.imagelength, page.imagewidth, _orientation(page)),
        )


def read(path, place):
    """The values (height, width[, bands]) of an image."""
    with _opened(path) as file:
        planes = [
            _seen(path, file, where, place, i) for i, where in enumerate(place.pages)
        ]
        orientation = _orientation(_page(file, place.pages[0]))
    values = planes[0] if len(planes) == 1 else np.dstack(planes)
    return upright(values, orientation)


@contextmanager
def _opened(path):
    try:
        import tifffile
    except ImportError as problem:
        raise ImportError(f"To read {path}, install tifffile.") from problem
    # Files of OME may name others, whose images are not of this file.
    with tifffile.TiffFile(path, _multifile=False) as file:
        yield file


def _page(file, where):
    """A page by its number and its first byte, with all of its tags."""
    import tifffile

    number, start = where
    file.filehandle.seek(start)
    return tifffile.TiffPage(file, number)


def _places(file):
    """A `_Place` for each image of the file."""
    flags = file.flags
    if flags & (_WITH_AXES | _SLIDES):
        series = file.series[:1] if flags & _SLIDES else file.series
        found = [_places_of_series(each) for each in series if _is_whole(each.keyframe)]
        if all(places is not None for places in found):
            return [place for places in found for place in places]
    places = [_Place(((page.index, page.offset),)) for page in file.pages]
    return [place for place in places if _is_whole(_page(file, place.pages[0]))]


def _is_whole(page):
    """Whether a page is an image, and neither a mask nor one reduced in size."""
    is_other = page.subfiletype & 0b101 or page.photometric == _MASK
    return not is_other and page.imagelength and page.imagewidth


def _places_of_series(series):
    """A `_Place` for each image of a series; None if the axes do not tell."""
    page = series.keyframe
    n_axes = len(series.shape) - len(page.shape)
    shape, axes = series.shape[:n_axes], series.axes[:n_axes]
    if n_axes < 0 or tuple(series.shape[n_axes:]) != tuple(page.shape):
        return None
    planes = np.arange(prod(shape)).reshape(shape)
    channels = [i for i, axis in enumerate(axes) if axis in "CS"]
    planes = np.moveaxis(planes, channels, range(n_axes - len(channels), n_axes))
    planes = planes.reshape(-1, prod(shape[i] for i in channels))
    if len(series.pages) == prod(shape) and all(p is not None for p in series.pages):
        pages = [(p.index, p.offset) for p in series.pages]
        if not all(isinstance(number, int) for number, _ in pages):
            return None
        return [_Place(tuple(pages[i] for i in plane)) for plane in planes]
    if series.dataoffset is None or len(series.pages) != 1:
        return None
    step = prod(page.shape) * series.dtype.itemsize
    return [
        _Place(
            ((page.index, page.offset),) * len(plane),
            tuple(int(series.dataoffset + i * step) for i in plane),
        )
        for plane in planes
    ]


def _check_is_whole(file, places):
    """Refuse a file that ends before the last of the pages that it tells of."""
    images = (file.imagej_metadata or {}).get("images", 1)
    if len(file.pages) == 1 and sum(len(place.pages) for place in places) < images:
        raise ValueError(f"it is truncated: it tells of {images} images")
    if file.flags & {"lsm", *_SLIDES}:  # which have chains of their own
        return
    form, handle, n_pages = file.tiff, file.filehandle, 0
    position = 8 if file.is_bigtiff else 4
    try:
        while n_pages <= len(file.pages):
            handle.seek(position)
            (start,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
            if start == 0:
                break
            handle.seek(start)
            (n_tags,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
            position = start + form.tagnosize + n_tags * form.tagsize
            n_pages += 1
    except struct.error as reason:
        raise ValueError("it is truncated: further pages are missing") from reason
    if n_pages > len(file.pages):
        raise ValueError("its last pages are damaged")


def _orientation(page):
    tag = page.tags.get(ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _the_one(what, values):
    if len(values) > 1:
        one, other, *_ = sorted(map(str, values))
        raise ValueError(f"its pages have values of {what} {one} and {other}")
    return values.pop()


def _alpha(page):
    """Number of the band that is alpha, or None."""
    n_base = _BASE_BANDS.get(page.photometric, 1)
    if page.photometric == _RGB and page.samplesperpixel == 4 and not page.extrasamples:
        return 3  # the tag that tells is missing
    for i, kind in enumerate(page.extrasamples):
        if kind in (_MULTIPLIED, _ALPHA) and i + n_base < page.samplesperpixel:
            return i + n_base
    return None


def _alphas(path, file, places):
    for where in dict.fromkeys(page for place in places for page in place.pages):
        page = _page(file, where)
        alpha = _alpha(page)
        if alpha is not None:
            yield _stored(path, file, page)[..., alpha]


def _type(page):
    """The type of the values that `_seen` answers."""
    if page.dtype is None or page.dtype.kind not in "buif":
        raise ValueError(f"its values are of the type {page.dtype}")
    has_few_bits = page.bitspersample < 8 or page.photometric in (_YCBCR, _LAB)
    if has_few_bits or page.photometric == _PALETTE:
        return np.dtype(np.uint8)
    return page.dtype.newbyteorder("=")


def _n_bands(page, place):
    """How many bands `read` answers."""
    n_extra = page.samplesperpixel - _BASE_BANDS.get(page.photometric, 1)
    if _alpha(page) is not None and not place.has_bands:
        n_extra -= 1
    is_color = page.photometric in (_RGB, _PALETTE, _CMYK, _YCBCR, _LAB)
    return len(place.pages) * ((3 if is_color else 1) + n_extra)


def _seen(path, file, where, place, i):
    """The values of one page, or of one part of a page, as they are seen."""
    page = _page(file, where)
    if place.offsets is not None:
        dtype = page.dtype.newbyteorder(file.byteorder)
        file.filehandle.seek(place.offsets[i])
        stored = file.filehandle.read_array(dtype, prod(page.shape))
        stored = _with_bands_last(stored.reshape(page.shape), page)
    else:
        stored = _stored(path, file, page)
    alpha, n_base = _alpha(page), _BASE_BANDS.get(page.photometric, 1)
    shown = _in_light(stored[..., :n_base], page)
    if alpha is not None and not place.has_bands:
        if page.extrasamples[alpha - n_base : alpha - n_base + 1] != (_MULTIPLIED,):
            shown = before_black(shown, stored[..., alpha])
        stored = np.delete(stored, alpha, axis=-1)
    values = np.concatenate([shown, stored[..., n_base:]], axis=-1)
    return values[..., 0] if values.shape[-1] == 1 else values


def _in_light(values, page):
    """Values (height, width, bands) as grey or as red, green and blue."""
    dtype = values.dtype
    if page.photometric == _WHITE_IS_ZERO and not _is_done_by_pillow(page):
        if dtype.kind == "f":
            return -values
        return np.invert(values) if dtype.kind == "i" else _ceiling(page) - values
    if page.photometric == _PALETTE:
        table = np.asarray(page.colormap)
        table = table if table.max() < 256 else table // 256
        return np.moveaxis(table, 0, -1)[values[..., 0]].astype(np.uint8)
    if page.photometric == _CMYK:
        top = highest(dtype)
        light = 1 - values.astype(np.float64) / top
        light = top * light[..., :3] * light[..., 3:]
        return (light if dtype.kind == "f" else np.rint(light)).astype(dtype)
    return values


def _ceiling(page):
    """The highest value that the page's bits can hold, of the type of its values."""
    return page.dtype.type(2**page.bitspersample - 1)


def _stored(path, file, page):
    """The values of a page (height, width, bands), as its file has them."""
    kind = page.photometric
    if kind not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, *_BASE_BANDS, _PALETTE):
        name = getattr(kind, "name", kind)
        raise ValueError(f"its colours are {name}: convert it to grey or RGB")
    if page.imagedepth > 1:
        raise ValueError("its pages are volumes: save their planes as pages")
    if _is_done_by_pillow(page):
        return _stored_by_pillow(path, page)
    if 8 < page.bitspersample < 16 and page.compression == 1 and not page.is_tiled:
        return _unpacked(file, page)
    try:
        values = page.asarray()
    except Exception as problem:
        if "imagecodecs" not in str(problem):
            raise
        try:
            return _stored_by_pillow(path, page)
        except Exception as other:
            raise ValueError(f"{problem}: install imagecodecs") from other
    return _with_bands_last(values, page)


def _unpacked(file, page):
    """Values of 9 to 15 bits, which follow each other without gaps within a row."""
    n_rows, n_columns = page.imagelength, page.imagewidth * page.samplesperpixel
    if page.planarconfig == 2:
        n_rows, n_columns = n_rows * page.samplesperpixel, page.imagewidth
    n_bits, n_bytes = page.bitspersample, -(-n_columns * page.bitspersample // 8)
    segments = file.filehandle.read_segments(page.dataoffsets, page.databytecounts)
    data = b"".join(segment for segment, _ in segments)
    rows = np.frombuffer(data, np.uint8, n_rows * n_bytes).reshape(n_rows, n_bytes)
    if page.fillorder == 2:
        rows = np.packbits(np.unpackbits(rows, axis=1), axis=1, bitorder="little")
    bits = np.zeros((n_rows, n_columns, 16), np.uint8)
    found = np.unpackbits(rows, axis=1, count=n_columns * n_bits)
    bits[..., 16 - n_bits :] = found.reshape(n_rows, n_columns, n_bits)
    values = np.packbits(bits, axis=-1).view(">u2")
    return _with_bands_last(values.astype(np.uint16), page)


def _with_bands_last(values, page):
    values = values.reshape(page.shape)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim == 2:
        return values[..., np.newaxis]
    return np.moveaxis(values, 0, -1) if page.planarconfig == 2 else values


def _is_done_by_pillow(page):
    """Whether Pillow reads the page, and inverts it where white is zero."""
    few_bits = page.bitspersample < 8 and page.photometric != _PALETTE
    return few_bits or page.photometric in (_YCBCR, _LAB)


#: Mode of Pillow -> kinds and bits of the values that Pillow reads truly.
_TRUE_MODES = {
    "1": {"u1"},
    "L": {"u2", "u4", "u8"},
    "P": {"u1", "u2", "u4", "u8"},
    "I;16": {"u12", "u16"},
    "I": {"i16", "i32", "u32"},
    "F": {"f32"},
}


def _stored_by_pillow(path, page):
    """The values of a page that only Pillow can decode, if it does so truly."""
    is_large = is_large_for_pillow(page.imagewidth * page.imagelength)
    with opened_by_pillow(path, is_large, formats=["TIFF"]) as image:
        image.seek(page.index)
        mode = "I;16" if image.mode.startswith("I;16") else image.mode
        kind = {"b": "u"}.get(page.dtype.kind, page.dtype.kind)
        is_true = f"{kind}{page.bitspersample}" in _TRUE_MODES.get(mode, {"u8"})
        if not is_true or len(image.getbands()) != page.samplesperpixel:
            raise ValueError(f"Pillow reads {mode}")
        convert_to = {"1": "L", "YCbCr": "RGB", "LAB": "RGB"}.get(mode)
        values = np.asarray(image.convert(convert_to) if convert_to else image)
        # Pillow turns images upright, but for old versions of Pillow.
        turned = image.getexif().get(ORIENTATION, 1) == 1
    values = values if mode == "1" else values.astype(_type(page))
    values = _turned_back(values, _orientation(page)) if turned else values
    values = values if values.ndim == 3 else values[..., np.newaxis]
    if page.photometric == _WHITE_IS_ZERO and page.bitspersample == 8:
        return np.invert(values)  # as the file has them
    return values


def _turned_back(values, orientation):
    """What `upright` turns upright."""
    return upright(values, {6: 8, 8: 6}.get(orientation, orientation))
