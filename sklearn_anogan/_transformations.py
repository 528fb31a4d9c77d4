# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Transformations of images, which a discriminator learns to tell apart.

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

#: Limits for rows: number of transformations, and of matrix entries (16 MB).
_MOST_ROTATIONS, _MATRIX_VALUES = 36, 2**22


def transformations(n_channels, height, width):
    """Every combination of a turn and a move that images of this size allow.

    Square images are turned by multiples of 90 degrees; other images are mirrored.
    Moves shift an image by a quarter of its height, up or down, and of its width, left
    or right, or not at all. Images of one pixel hold a row of numbers in their
    channels. The row is multiplied by random rotation matrices, always the same ones.

    Returns
    -------
    transformations : list of nn.Module
        The first does not change images (n, channels, height, width). Each of the rest
        changes images in a different way. There are 36 for images of at least 4x4
        pixels and for rows, fewer for rows of more than 341 numbers, and only the first
        for rows of one number or more than 1448.
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
    """Turn or mirror images, then move them.

    Parameters
    ----------
    quarters : int
        Number of turns by 90 degrees.
    mirrored : tuple of int
        Axes to flip.
    down, right : int
        Pixels to move. Pixels that leave on one side enter on the opposite side.
    """

    def __init__(self, quarters, mirrored, down, right):
        super().__init__()
        self.quarters, self.mirrored = quarters, mirrored
        self.down, self.right = down, right

    def forward(self, x):
        turned = x.rot90(self.quarters, (2, 3)).flip(self.mirrored)
        return turned.roll((self.down, self.right), (2, 3))


class AllAtOnce:
    """Shows some images in every transformation, with a few operations for all of them.

    Parameters
    ----------
    known : sequence of nn.Module
        Of `transformations`, on the CPU.
    n_channels, height, width : int
        Shape of the images.
    device : torch.device
    """

    def __init__(self, known, n_channels, height, width, device):
        self.n = len(known)
        if height == width == 1:
            x = torch.eye(n_channels)[..., None, None]
            self.matrices = torch.stack([t(x).flatten(1) for t in known]).to(device)
            return
        self.matrices = None
        # For each pixel of a transformed image, the pixel that the value comes from.
        pixels = torch.arange(height * width).reshape(1, 1, height, width)
        self.sources = torch.cat([t(pixels).flatten(1) for t in known]).to(device)

    def __call__(self, x):
        """Transform images (n, channels, height, width).

        Every transformation shows the same number of images, as many as show each
        image at least once.

        Returns
        -------
        views : tensor of shape (m, channels, height, width)
        t : tensor of shape (m,), int64
            Places of the transformations in ``known``.
        """
        n_each = -(-len(x) // self.n)
        m = self.n * n_each
        t = torch.arange(m, device=x.device) // n_each
        x = x[torch.arange(m, device=x.device) % len(x)]
        if self.matrices is not None:
            rows = x.reshape(self.n, n_each, -1)
            return torch.bmm(rows, self.matrices).reshape(x.shape), t
        pixels = self.sources[t][:, None].expand(*x.shape[:2], -1)
        return x.flatten(2).gather(2, pixels).reshape(x.shape), t


def _rotations(n_features):
    """Frozen linear layers, each of which rotates rows in a different way."""
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
