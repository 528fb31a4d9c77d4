# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Files that are written whole or not at all."""

import os


def write_whole(path, parts, unfinished):
    """Write a file under another name, then give it its own.

    Whenever the process or the machine dies, either the old file or the new one is
    there. If writing fails, neither the old file changes nor a new one is left.

    Parameters
    ----------
    path : Path
    parts : sequence of bytes-like
    unfinished : Path
        The other name, in the same directory.

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


def unusable(parameter, path, error):
    """The OSError that tells which of the user's parameters named a path."""
    problem = f"{parameter} cannot be used: {error.strerror or error}"
    return OSError(error.errno, problem, str(path))


def _sync_directory(path):
    """Make a new name in a directory last; Windows has no such thing."""
    if os.name == "posix":
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
