# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Files that are written completely or not at all."""

import os
from errno import EISDIR
from pathlib import Path
from tempfile import TemporaryFile


def write_whole(path, parts, unfinished):
    """Write a file under a temporary name, then rename it.

    If the process or the machine dies, either the old or the new file is there. If
    writing fails, the old file is unchanged and no new file is left.

    Parameters
    ----------
    path : Path
    parts : sequence of bytes-like
    unfinished : Path
        Temporary name, in the same directory.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    try:
        with open(unfinished, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_directory(path.parent)
    except BaseException:
        try:
            unfinished.unlink(missing_ok=True)
        except OSError:
            pass
        raise


def check_writable(parameter, path):
    """Refuse a path that `write_whole` could not write, before work is lost.

    Raises
    ------
    OSError
        If it is a folder, or nothing can be written beside it.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(EISDIR, f"{parameter} is a folder", str(path))
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise unusable(parameter, path, error) from error


def unusable(parameter, path, error):
    """An OSError that names the `parameter` by which the user gave `path`."""
    problem = f"{parameter} cannot be used: {error.strerror or error}"
    return OSError(error.errno, problem, str(path))


def _sync_directory(path):
    """Make a rename in a directory survive a crash. Windows cannot do so."""
    if os.name == "posix":
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
