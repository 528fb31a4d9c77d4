# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Files that are written completely or not at all."""

import os
from errno import EACCES, EISDIR
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

#: Folders whose entries stand for what is open or attached: devices, pipes.
_OF_THE_SYSTEM = ("/dev", "/proc")


def write_whole(path, parts, unfinished=None):
    """Write a file under a temporary name, then rename it.

    If the process or the machine dies, either the old or the new file is there. If
    writing fails, the old file is unchanged and no new file is left. A link stays a
    link, and the file that it points to is replaced. What is no file, a device or a
    pipe, is written to as it is.

    Parameters
    ----------
    path : path-like
    parts : sequence of bytes-like
    unfinished : Path, default=None
        Temporary name, in the same directory. None makes one up, so that several
        processes can write to the same path.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if is_stream(path):
        with open(path, "wb") as file:
            file.writelines(parts)
        return
    path = Path(os.path.realpath(path))
    if unfinished is None:
        # Without the name of the file, which may be as long as names can be.
        unfinished = path.with_name(f"{uuid4().hex}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            file.writelines(parts)
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


def is_stream(path):
    """Whether a path stands for a device or a pipe, which cannot be replaced."""
    if os.path.abspath(path).startswith(tuple(f"{top}/" for top in _OF_THE_SYSTEM)):
        return True
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def is_one_of(path, paths):
    """Whether a path leads to one of the files, by whatever name or link."""
    path = Path(path)
    return path.exists() and any(
        other.exists() and path.samefile(other) for other in map(Path, paths)
    )


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
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise unusable(parameter, path, PermissionError(EACCES, "no permission"))
        return
    try:
        with TemporaryFile(dir=Path(os.path.realpath(path)).parent):
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
