# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Which reader reads a file, and whether the file is what it was."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from . import _dicom, _pillow, _tiff
from ._pixels import Header, NoImageError

_DICOM = {".dcm", ".dicom"}
_TIFF = {".tif", ".tiff"}

#: Files with such names are images; others are if their first bytes say so.
SUFFIXES = (
    _DICOM
    | _TIFF
    | set(
        ".apng .avif .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx .pbm .pcx "
        ".pgm .png .pnm .ppm .tga .webp".split()
    )
)

_MAGIC_OF_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

#: Plain text may begin like this too.
_MAGIC_OF_TEXT = (b"P1", b"P2", b"P3")

#: Names of images that no reader here shows as they are meant.
_UNREADABLE = {
    *".3fr .arw .cr2 .cr3 .dng .exr .heic .heif .jxl .nef .orf .pef .raf .rw2".split(),
    *".srw".split(),
}


@dataclass(frozen=True)
class ImageFile:
    """A file, as it was when it was loaded."""

    path: Path
    stamp: tuple[int, int]  # bytes, and time of the last change
    reader: str
    header: Header

    def read(self, number):
        """The values (height, width[, bands]) of one of its images.

        Raises
        ------
        ValueError, OSError
            If the file has changed, or cannot be decoded.
        """
        try:
            now = _stamp(os.stat(self.path))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} has been deleted since it was loaded."
            ) from None
        if now != self.stamp:
            raise ValueError(
                f"{self.path} has changed since it was loaded. Load the images again."
            )
        try:
            return _READERS[self.reader].read(self.path, self.header.places[number])
        except ImportError:
            raise
        except Exception as error:  # a damaged file may provoke any
            raise unreadable(self.path, error) from error


_READERS: dict[str, ModuleType] = {
    "dicom": _dicom,
    "pillow": _pillow,
    "tiff": _tiff,
}


def has_image_name(path):
    """Whether a file is taken for an image by its name."""
    return path.suffix.lower() in SUFFIXES


def open_file(path, is_meant):
    """An `ImageFile`; to be called where `large_allowed`.

    Parameters
    ----------
    path : Path
    is_meant : bool
        Whether the file should be an image, by its name or by the user's word.

    Raises
    ------
    NoImageError
        If the file is no image, nor is it meant to be one.
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read.
    ImportError
        If the package that reads the file is not installed.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(
                "it is a folder" if stat.S_ISDIR(found.st_mode) else "it is no file"
            )
        reader = _reader(path, is_meant)
        header = _READERS[reader].header(path)
        _pillow.check_n_pixels(header.size)
    except ImportError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except Exception as error:  # a damaged file may provoke any
        is_none = isinstance(error, NoImageError) or _is_unidentified(error)
        if is_none and not is_meant:
            raise NoImageError(_why_none(path)) from error
        raise unreadable(path, error) from error
    return ImageFile(path, _stamp(found), reader, header)


def unreadable(path, error):
    """The error for a file that cannot be read."""
    return ValueError(f"{path} cannot be read as an image: {in_words(error)}")


def in_words(error):
    """What went wrong, in one line that does not repeat the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if _is_unidentified(error):
        return "it has no format that is known"
    return " ".join(str(error).split()) or type(error).__name__


def _reader(path, is_meant):
    with open(path, "rb", buffering=0) as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return "dicom"
    if start.startswith(_MAGIC_OF_TIFF):
        return "tiff"
    if start.startswith(_MAGIC_OF_TEXT) and not is_meant:
        raise NoImageError("it is a text")
    if path.suffix.lower() in _DICOM and not _is_of_pillow(path):
        return "dicom"
    return "pillow"


def _is_of_pillow(path):
    try:
        with _pillow.opened(path):
            return True
    except Exception:
        return False


def _is_unidentified(error):
    return type(error).__name__ == "UnidentifiedImageError"


def _why_none(path):
    suffix = path.suffix.lower()
    return f"no reader of {suffix} files" if suffix in _UNREADABLE else "no image"


def _stamp(found):
    return found.st_size, found.st_mtime_ns
