# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""One pass over images, for all that a detector finds in them."""

import copy
import os
import re
from collections import Counter
from math import ceil
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import _num_samples, check_is_fitted

from ._drawing import to_array, to_pictures

#: Values of images that are looked at together, and images at most.
_BLOCK_VALUES, _BLOCK = 2**23, 64

#: How far a map lies above the median of normal pixels, relative to the threshold:
#: where colours begin, and where they end.
_COLD, _HOT = 0.5, 10.0


def check_has_maps(detector):
    """Refuse what has no maps, or has not been fitted."""
    inner = getattr(detector, "detector_", detector)
    has_maps = hasattr(inner, "explain") or not has_rows(detector)
    if not (hasattr(detector, "explain") and has_maps):
        raise TypeError(
            f"A {type(detector).__name__} has no maps. Use an AnoGANDetector, or a "
            "PatchDetector that is fitted to images."
        )
    check_is_fitted(detector)


def has_rows(detector):
    """Whether the detector was fitted to rows of numbers."""
    shape = getattr(detector, "image_shape_", None)
    if shape is None:
        return hasattr(detector, "n_features_in_")
    return len(shape) == 1


def check_level(detector, level):
    """Refuse a level below all p-values.

    Raises
    ------
    ValueError
    """
    known = detector.calibration_
    if level < known.smallest_p_value * (1 - 1e-9):
        what = "groups of images" if known.has_groups else "images"
        least = ceil(1e4 * known.smallest_p_value) / 1e4  # not below it, as rounded
        raise ValueError(
            f"No p-value is {level:g} or less: the {known.n_groups} held-out {what} "
            f"allow {least:.4g} at the least. Take a larger level, "
            f"fit to more {what}, or call calibrate with at least "
            f"{ceil(1 / level) - 1} other normal {what}."
        )


def examine(detector, X, level=None, failed=None):
    """Search the images of X, block by block.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
    X : array-like, tensor or list
    level : float or None
        Images with a p-value of at most this are marked; None marks as `predict` does.
    failed : dict or None
        Is given number -> reason of images that cannot be judged, which are left out.
        None raises an error for the first one.

    Yields
    ------
    found : Bunch
        ``index``: numbers of the images. ``pictures``: arrays (height, width[,
        channels]); of rows, (n_features,). ``scores``, ``p_values`` and ``maps`` as
        `explain` answers; ``labels``, -1 where an image is marked and 1 otherwise.
    """
    detector, n = _silent(detector), _num_samples(X)
    if n == 0:
        detector.predict(X)  # which refuses X
    size = _first_look(detector, X, failed)
    for begin in range(0, n, size):
        numbers = range(begin, min(begin + size, n))
        yield from _judged(detector, X, numbers, level, failed)
    if failed and len(failed) == n:
        raise ValueError(f"None of the {n} images can be judged: {failed[0]}")


def _first_look(detector, X, failed):
    """Warn, or refuse, as for all images; the number of images to search together."""
    for i in range(_num_samples(X)):
        try:
            one = _part(X, i, i + 1)
            detector.predict(one)
            detector.p_values(one)
            return _block_size(one)
        except (ValueError, OSError):
            if failed is None:
                raise
    return 1


def _judged(detector, X, numbers, level, failed):
    """Yield what is found in some images; one by one if not in all together."""
    begin, end = numbers[0], numbers[-1] + 1
    try:
        block = _part(X, begin, end)
        found = detector.explain(block)
        pictures = _pictures(block, getattr(detector, "image_shape_", None))
    except (ValueError, OSError) as error:
        if failed is None and isinstance(error, OSError):
            raise
        if failed is None:
            what = f"images {begin} to {end - 1}"
            raise ValueError(f"In the {what} of X: {error}") from error
        if len(numbers) == 1:
            # The message counts from the first image of the block on.
            failed[begin] = _FIRST.sub(rf"\1 {begin}", str(error))
            return
        for i in numbers:
            yield from _judged(detector, X, range(i, i + 1), level, failed)
        return
    is_marked = (
        found.scores < detector.offset_ if level is None else found.p_values <= level
    )
    yield Bunch(
        index=np.asarray(numbers),
        pictures=pictures,
        scores=found.scores,
        p_values=found.p_values,
        labels=np.where(is_marked, -1, 1),
        maps=[to_array(each) for each in found.maps],
    )


#: How messages name the first image of X.
_FIRST = re.compile(r"\b([Ii]mage|[Ss]ample) 0\b")


class Heat:
    """How maps are coloured, by the maps of held-out images.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
        Fitted to images.
    """

    def __init__(self, detector):
        self.threshold = detector.map_threshold()
        self.usual = detector.map_threshold(false_positive_rate=0.5)

    def of(self, one):
        """Colours of a map in [0, 1], and which pixels are above the threshold."""
        width = max(self.threshold - self.usual, 1e-30)
        relative = np.maximum((one - self.usual) / width, _COLD)
        heat = np.log(relative / _COLD) / np.log(_HOT / _COLD)
        return np.minimum(heat, 1).astype(np.float32), one > self.threshold

    def value_of(self, heat):
        """The value of a map that has this heat."""
        width = max(self.threshold - self.usual, 1e-30)
        return self.usual + width * _COLD * (_HOT / _COLD) ** heat


def names_of(X):
    """Names of the images: of files or of a data frame's index, or numbers.

    Files of several folders are named by the way from the folder that has them all.
    """
    if hasattr(X, "paths"):
        folder = common_folder(X.paths)
        return [
            str(path.relative_to(folder)) + ("" if page is None else f", page {page}")
            for path, page in pages_of(X.paths)
        ]
    if hasattr(X, "iloc"):
        return [str(label) for label in X.index]
    return [str(i) for i in range(_num_samples(X))]


def common_folder(paths):
    """The folder that has all files, within subfolders perhaps."""
    parents = {str(path.parent) for path in paths}
    try:
        return Path(os.path.commonpath(parents))
    except ValueError:  # of two drives, or with and without a root
        return Path()


def left_out_of(X):
    """(name, reason) of the files that `load_images` has left out."""
    left_out = getattr(X, "left_out", {})
    return [(str(path), reason) for path, reason in left_out.items()]


def pages_of(paths):
    """Path and page of each image; no page where a file has a single one."""
    times = Counter(paths)
    seen: Counter[Path] = Counter()
    found = []
    for path in paths:
        found.append((path, seen[path] if times[path] > 1 else None))
        seen[path] += 1
    return found


def _silent(detector):
    """The same detector without progress bars: there would be one for each block."""
    detector = copy.copy(detector)
    if hasattr(detector, "detector_"):
        detector.detector_ = _silent(detector.detector_)
    if hasattr(detector, "verbose"):
        detector.verbose = 0
    return detector


def _part(X, begin, end):
    return X.iloc[begin:end] if hasattr(X, "iloc") else X[begin:end]


def _block_size(one):
    first = one.iloc[0] if hasattr(one, "iloc") else one[0]
    return max(1, min(_BLOCK, _BLOCK_VALUES // max(1, int(np.prod(np.shape(first))))))


def _pictures(block, image_shape):
    """Images of a block as arrays; flattened ones in their shape, rows as they are."""
    is_frame = hasattr(block, "columns")
    if is_frame or hasattr(block, "iloc") or np.ndim(block[0]) == 1:
        rows = to_array(block)
        if rows.dtype == object:  # a series of images
            return to_pictures(rows)
        return list(rows.reshape(len(rows), *(image_shape or rows.shape[1:])))
    return to_pictures(block)
