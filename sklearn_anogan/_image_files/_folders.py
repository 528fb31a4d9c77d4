# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Which files a folder holds."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

#: Files and folders that systems keep beside the user's, in lower case.
_OF_SYSTEMS = {
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "desktop.ini",
    "ehthumbs.db",
    "icon\r",
    "lost+found",
    "system volume information",
    "thumbs.db",
}


def find_files(folder, on_error):
    """The files of a folder and its subfolders in the order of paths, or those given.

    Parameters
    ----------
    folder : path, or iterable of paths
    on_error : {"raise", "skip"}
        What to do with subfolders that cannot be read.

    Returns
    -------
    paths : list of Path
    left_out : dict
        Path -> reason, of what is no file, or a subfolder that cannot be read.
    searched : Path or None
        The folder, if there is one that was searched.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    OSError
        If a folder cannot be read.
    TypeError
        If ``folder`` is neither a path nor an iterable of paths.
    """
    if not isinstance(folder, str | bytes | os.PathLike):
        if not isinstance(folder, Iterable):
            raise TypeError(
                f"load_images needs a folder or an iterable of paths, got {folder!r}."
            )
        return [_as_path(path) for path in folder], {}, None
    folder = _as_path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder or file {folder}.")
    if not folder.is_dir():
        return [folder], {}, None
    paths, left_out, unread = [], {}, [str(folder)]
    while unread:
        path = unread.pop()
        try:
            entries = _entries(path)
        except OSError as error:
            if on_error == "raise" or path == str(folder):
                raise
            left_out[Path(path)] = error.strerror
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                unread.append(entry.path)
            elif reason := _why_no_file(entry):
                left_out[Path(entry.path)] = reason
            else:
                paths.append(Path(entry.path))
    return sorted(paths), left_out, folder


def _entries(folder):
    """What a folder holds that is the user's and not hidden."""
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.name.lower() not in _OF_SYSTEMS
        ]


def _as_path(path):
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"load_images needs paths of files, got {path!r}.")
    return Path(os.fsdecode(path))


def _why_no_file(entry):
    """Why an entry of a folder, not a folder itself, is no file; None if it is one."""
    if entry.is_file(follow_symlinks=False):
        return None
    if not entry.is_symlink():
        return "no file"  # but a pipe, a socket, a device
    try:
        mode = os.stat(entry.path).st_mode
    except OSError:
        return "broken link"
    if stat.S_ISDIR(mode):
        return "a link to a folder"
    return None if stat.S_ISREG(mode) else "no file"
