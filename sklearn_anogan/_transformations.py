# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Turned and moved images, which a discriminator learns to tell apart.

References
----------
I. Golan, R. El-Yaniv, "Deep anomaly detection using geometric transformations", 2018,
:doi:`10.48550/arXiv.1805.10917`
"""

from itertools import product
from typing import NamedTuple


class Transformation(NamedTuple):
    """A turn, then a move, of images (n, channels, height, width)."""

    quarters: int  # of a full turn
    mirrored: tuple  # axes
    down: int  # pixels; what leaves on one side comes in on the other
    right: int


def transformations(height, width):
    """Every combination of a turn and a move that images of this size allow.

    The turns are those by quarters, or for images that are not square, the mirror
    images; the moves are those by a quarter of the image in both directions, and none.

    Returns
    -------
    transformations : list of Transformation
        The first leaves images as they are; all others change them, each in its own
        way. There are 36 for images of at least 4x4 pixels, and a single one for an
        image of one pixel.
    """
    if height == width:
        turns = [(quarters, ()) for quarters in range(4 if height > 1 else 1)]
    else:
        vertical, horizontal = (
            [(), (axis,)] if side > 1 else [()]
            for axis, side in ((2, height), (3, width))
        )
        turns = [(0, (*a, *b)) for a, b in product(vertical, horizontal)]
    moves = [
        [0, side // 4, -(side // 4)] if side >= 4 else [0] for side in (height, width)
    ]
    return [
        Transformation(*turn, *move) for turn, move in product(turns, product(*moves))
    ]


def transform(x, transformation):
    """Transform images (n, channels, height, width), all in the same way."""
    quarters, mirrored, down, right = transformation
    return x.rot90(quarters, (2, 3)).flip(mirrored).roll((down, right), (2, 3))
