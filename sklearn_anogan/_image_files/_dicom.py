# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""DICOM files, which pydicom reads."""

import numpy as np

from ._pixels import Header, NoImageError

#: Elements with more bytes are read when they are asked for: the pixels.
_LARGE = 2**16


def header(path):
    """The `Header` of a file."""
    data = _dataset(path)
    if not any(name in data for name in _PIXELS):
        raise NoImageError("it is a DICOM file without pixels, or none")
    is_color = _is_palette(data) or int(data.get("SamplesPerPixel", 1)) > 1
    n_frames = int(data.get("NumberOfFrames") or 1)
    return Header(
        places=tuple(range(n_frames)),
        dtype=_color_type(data) if is_color else np.dtype(np.float32),
        n_bands=3 if is_color else 1,
        size=(int(data.Rows), int(data.Columns)),
    )


def read(path, place):
    """The values of a frame: grey in the units that the file names, or colours."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    data = _dataset(path)
    values = pixel_array(path, index=place)
    if _is_palette(data):
        return apply_color_lut(values, data).astype(_color_type(data))
    if values.ndim == 3:
        return values
    scale = _scale(data, place)
    is_negative = data.PhotometricInterpretation == "MONOCHROME1"
    table = scale.get("ModalityLUTSequence")
    if table:
        n_bits = table[0].LUTDescriptor[2]
        table[0].LUTDescriptor[2] = 8 if n_bits <= 8 else 16  # types that numpy has
        values = apply_modality_lut(values, scale).astype(np.float32)
        return 2.0**n_bits - 1 - values if is_negative else values
    values = values.astype(np.float64)
    if is_negative:
        values = _sum_of_ends(data) - values
    return apply_modality_lut(values, scale).astype(np.float32)


_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def _dataset(path):
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(f"To read {path}, install pydicom.") from error
    # Some programs leave out the first bytes, by which a file tells that it is DICOM.
    return pydicom.dcmread(path, defer_size=_LARGE, force=True)


def _is_palette(data):
    return data.get("PhotometricInterpretation") == "PALETTE COLOR"


def _color_type(data):
    """The type of colours: of the palette, if there is one."""
    if _is_palette(data):
        name = "RedPaletteColorLookupTableDescriptor"
        n_bits = data[name][2] if name in data else 8
    else:
        n_bits = data.BitsAllocated
    return np.dtype(np.uint8 if n_bits <= 8 else np.uint16)


def _scale(data, frame):
    """Where the file says what the stored values of a frame stand for."""
    names = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
    for name, i in zip(names, (frame, 0), strict=True):
        groups = data.get(name)
        if groups and groups[i].get("PixelValueTransformationSequence"):
            data = groups[i].PixelValueTransformationSequence[0]
            break
    if "RescaleSlope" in data or "RescaleIntercept" in data:
        data.setdefault("RescaleSlope", 1)
        data.setdefault("RescaleIntercept", 0)
    return data


def _sum_of_ends(data):
    """The lowest and the highest value that can be stored, added up.

    A negative is turned into a positive by what can be stored, not by what is there:
    so the same brightness has the same value in all files.
    """
    if "PixelData" not in data or data.get("PixelRepresentation") == 1:
        return -1.0 if "PixelData" in data else 0.0
    return 2.0**data.BitsStored - 1
