# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""One pass over images, for all that a detector finds in them."""

import copy
from collections import Counter
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


def examine(detector, X):
    """Search the images of X, block by block.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
    X : array-like, tensor or list

    Yields
    ------
    found : Bunch
        ``index``: numbers of the images. ``pictures``: arrays (height, width[,
        channels]); of rows, (n_features,). ``scores``, ``p_values`` and ``maps`` as
        `explain` answers; ``labels`` as `predict` does.
    """
    detector = _silent(detector)
    one = _part(X, 0, 1)
    # Both warn, or refuse, as they would for all images.
    detector.predict(one)
    detector.p_values(one)
    size = _block_size(one)
    for begin in range(0, _num_samples(X), size):
        block = _part(X, begin, begin + size)
        try:
            found = detector.explain(block)
        except ValueError as error:
            end = begin + _num_samples(block) - 1
            raise ValueError(f"In the images {begin} to {end} of X: {error}") from error
        yield Bunch(
            index=np.arange(begin, begin + len(found.scores)),
            pictures=_pictures(block, getattr(detector, "image_shape_", None)),
            scores=found.scores,
            p_values=found.p_values,
            labels=np.where(found.scores < detector.offset_, -1, 1),
            maps=[to_array(each) for each in found.maps],
        )


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


def names_of(X):
    """Names of the images: of files or of a data frame's index, or numbers."""
    if hasattr(X, "paths"):
        return [
            path.name if page is None else f"{path.name}, page {page}"
            for path, page in pages_of(X.paths)
        ]
    if hasattr(X, "iloc"):
        return [str(label) for label in X.index]
    return [str(i) for i in range(_num_samples(X))]


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
