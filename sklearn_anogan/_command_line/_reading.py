# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The folder of a command: images, their names and groups, and what is missing."""

import csv
import io
import os
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._image_files import has_image_name
from .._warnings import warn_user
from ..datasets import load_images
from ..inspection._examining import left_out_of, names_of

#: Files that a line on the screen names.
_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class Folder:
    """Images of a folder.

    Attributes
    ----------
    images : ImageFiles
    names : list of str
        Of the images.
    broken : list of (name, reason)
        Files that should be images, and cannot be read.
    others : list of (name, reason)
        What else the folder holds.
    """

    images: object
    names: list
    broken: list
    others: list


def read_folder(args, size, color, refuse=None):
    """Load the images of ``args.folder``.

    Parameters
    ----------
    args : Namespace
    size, color
        As for `load_images`.
    refuse : callable or None
        Image -> why it cannot be used, or None. Files with such an image count as
        broken.

    Returns
    -------
    folder : Folder
    """
    on_error = "raise" if args.strict else "skip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of files that are named below
        _raise_limit(args.max_pixels)
        X = load_images(args.folder, size, color=color, on_error=on_error)
    args.words.names = names_of(X)
    left_out = left_out_of(X)
    unusable = _unusable(X, refuse) if refuse else {}
    if unusable:
        path, reason = next(iter(unusable.items()))
        usable = [path for path in dict.fromkeys(X.paths) if path not in unusable]
        if args.strict or not usable:
            raise ValueError(f"{path}: {reason}")
        left_out += [(str(path), reason) for path, reason in unusable.items()]
        X = load_images(usable, size, color=color)
        args.words.names = names_of(X)
    left_out = [(name, args.words.translate(reason)) for name, reason in left_out]
    broken = [each for each in left_out if _should_be_image(*each)]
    others = [each for each in left_out if each not in broken]
    return Folder(X, args.words.names, broken, others)


def _raise_limit(max_pixels):
    """Let Pillow read images of so many pixels. It allows twice what it is told."""
    from PIL import Image

    if max_pixels is not None:
        Image.MAX_IMAGE_PIXELS = max(1, max_pixels // 2)


def _unusable(X, refuse):
    """Path -> reason, of the images that are refused."""
    found = {}
    for i, path in enumerate(X.paths):
        if reason := refuse(X[i]):
            found.setdefault(path, reason)
    return found


def _should_be_image(name, reason):
    is_meant = has_image_name(Path(name)) or reason.startswith("cannot be read")
    return is_meant and not reason.startswith("a map of")


def why_no_use(image, sides):
    """Why an image cannot be fitted to, by patches with these sides; None if it can."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        return "has NaN or infinity"
    if any(n < least for n, least in zip(image.shape[:2], sides, strict=True)):
        return f"is smaller than a patch of {sides[0]} x {sides[1]} pixels"
    return None


def tell_of_left_out(args, broken, others):
    """Say which files were not used; and return the exit code."""
    if others and not args.quiet:
        print(f"{_count(others)} left out: {_named(others)}.", file=sys.stderr)
    if broken:
        warn_user(f"{_count(broken)} could not be used: {_named(broken, len(broken))}.")
    return 3 if broken else 0


def _count(files):
    return f"{len(files)} file{'s' if len(files) > 1 else ''}"


def _named(files, most=_MOST_NAMED):
    named = [f"{name} ({reason})" for name, reason in files[:most]]
    return ", ".join(named) + (", ..." if len(files) > most else "")


def read_groups(args, X):
    """A label for each image by the option --groups; None without the option."""
    if args.groups is None:
        return None
    if args.groups == "folders":
        return [str(path.parent) for path in X.paths]
    labels, times = _read_table(args.groups), Counter(path.name for path in {*X.paths})
    found = [
        _label_of(path, Path(args.folder), labels, times[path.name] == 1)
        for path in X.paths
    ]
    missing = [str(p) for p, label in zip(X.paths, found, strict=True) if label is None]
    if missing:
        named = _named([(path, "no row") for path in missing])
        raise ValueError(f"{args.groups} has no group for {named}.")
    return found


def _read_table(path):
    """The columns file and group of a CSV file, file -> group."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"--groups: {path} is no text in UTF-8. Save the table as CSV UTF-8."
        ) from error
    header, _, rest = text.partition("\n")
    if header.lower().startswith("sep="):  # as a spreadsheet is told
        header, text = rest.partition("\n")[0], rest
    # The names of the columns hold no other delimiter.
    rows = (
        [*csv.reader(io.StringIO(text, newline=""), delimiter=each)] for each in ",;\t"
    )
    rows = max(rows, key=lambda rows: len(_columns(rows) & {"file", "group"}))
    names = [name.strip().lower() for name in rows[0]] if rows else []
    if sorted(name for name in names if name in ("file", "group")) != ["file", "group"]:
        raise ValueError(
            f"{path} needs the columns file and group; it has {', '.join(names)}."
        )
    i, j = names.index("file"), names.index("group")
    labels = {}
    for row in rows[1:]:
        if len(row) <= max(i, j) or not row[i].strip():
            continue
        name, label = os.path.normpath(row[i].strip()), row[j].strip()
        if not label or labels.setdefault(name, label) != label:
            groups = f"two groups, {labels[name]} and {label}" if label else "no group"
            raise ValueError(f"--groups: {name} has {groups} in {path}.")
    return labels


def _columns(rows):
    return {name.strip().lower() for name in rows[0]} if rows else set()


def _label_of(path, folder, labels, is_name_unique):
    """The group of a file, which the table names in one way or another."""
    within = path.relative_to(folder) if path.is_relative_to(folder) else path
    names = [os.path.normpath(each) for each in (within, path, path.resolve())]
    names += [path.name] if is_name_unique else []
    return next((labels[name] for name in names if name in labels), None)
