# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Files that are written completely or not at all."""

import os
from errno import EACCES, EISDIR, ELOOP
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

#: Names of what a process has open: a file by such a name is not to be replaced.
_OPEN = ("/dev/fd/", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/")

#: Links that lead from one to the next, at most.
_MOST_LINKS = 40


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
        with open(path, "ab") as file:  # a shell may have opened it to append
            file.writelines(parts)
        return
    path = _end_of_links(path)
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
    if os.path.abspath(path).startswith(_OPEN):
        return True
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def is_one_of(path, paths):
    """Whether a path leads to one of the files, by whatever name or link."""
    return not identities([path]).isdisjoint(identities(paths))


def identities(paths):
    """What all names of a file have in common, for each of the files that exist."""
    found = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


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
        folder = _end_of_links(path).parent
        os.stat(folder)  # a temporary file takes a shorter way
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unusable(parameter, path, error) from error


def _end_of_links(path):
    """The path that a link leads to in the end; other paths as they are.

    Nothing is made shorter: of ``missing/../file``, the system knows no file.
    """
    path = Path(path)
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            return path
        path = path.parent / os.readlink(path)
    raise OSError(ELOOP, os.strerror(ELOOP), str(path))


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
