# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Turned and moved images, which a discriminator learns to tell apart.

References
----------
I. Golan, R. El-Yaniv, "Deep anomaly detection using geometric transformations", 2018,
:doi:`10.48550/arXiv.1805.10917`

L. Bergman, Y. Hoshen, "Classification-based anomaly detection for general data", 2020,
:doi:`10.48550/arXiv.2005.02359`
"""

from itertools import product

import numpy as np
import torch
from scipy.stats import ortho_group
from torch import nn

#: Rotations of rows, and how many numbers their matrices may have: 16 MB.
_MOST_ROTATIONS, _MATRIX_VALUES = 36, 2**22


def transformations(n_channels, height, width):
    """Every combination of a turn and a move that images of this size allow.

    The turns are those by quarters, or for images that are not square, the mirror
    images; the moves are those by a quarter of the image in both directions, and none.
    Images of one pixel, which hold rows of numbers in their channels, are turned in the
    space of the numbers: by rotations drawn at random, always the same ones.

    Returns
    -------
    transformations : list of nn.Module
        The first leaves images (n, channels, height, width) as they are; all others
        change them, each in its own way. There are 36 for images of at least 4x4 pixels
        and for rows, fewer than that for rows of more than 341 numbers, and a single
        one for rows of one number or more than 1448.
    """
    if height == width == 1:
        return [TurnAndMove(0, (), 0, 0), *_rotations(n_channels)]
    if height == width:
        turns = [(quarters, ()) for quarters in range(4)]
    else:
        vertical, horizontal = (
            [(), (axis,)] if side > 1 else [()]
            for axis, side in ((2, height), (3, width))
        )
        turns = [(0, (*a, *b)) for a, b in product(vertical, horizontal)]
    moves = [
        [0, side // 4, -(side // 4)] if side >= 4 else [0] for side in (height, width)
    ]
    return [TurnAndMove(*turn, *move) for turn, move in product(turns, product(*moves))]


class TurnAndMove(nn.Module):
    """Turn images, then move them.

    Parameters
    ----------
    quarters : int
        Of a full turn.
    mirrored : tuple of int
        Axes.
    down, right : int
        Pixels; what leaves on one side comes in on the other.
    """

    def __init__(self, quarters, mirrored, down, right):
        super().__init__()
        self.quarters, self.mirrored = quarters, mirrored
        self.down, self.right = down, right

    def forward(self, x):
        turned = x.rot90(self.quarters, (2, 3)).flip(self.mirrored)
        return turned.roll((self.down, self.right), (2, 3))


def _rotations(n_features):
    """Frozen linear layers, each of which turns rows in another way."""
    n = min(_MOST_ROTATIONS, _MATRIX_VALUES // n_features**2) - 1
    if n_features == 1 or n < 1:
        return []
    rng = np.random.RandomState(0)
    matrices = ortho_group.rvs(n_features, size=n, random_state=rng)
    rotations = []
    for matrix in matrices.reshape(n, n_features, n_features):
        turn = nn.Linear(n_features, n_features, bias=False, device="meta")
        weight = torch.tensor(matrix, dtype=torch.float32)
        turn.weight = nn.Parameter(weight, requires_grad=False)
        rotations.append(
            nn.Sequential(nn.Flatten(), turn, nn.Unflatten(1, (n_features, 1, 1)))
        )
    return rotations
