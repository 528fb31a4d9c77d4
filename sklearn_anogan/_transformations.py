# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Turned and moved images, which a discriminator learns to tell apart.

Each transformation is a permutation of the pixels, so that a table of them serves
images of any size and number of channels, and a batch is transformed by one look-up.

References
----------
I. Golan, R. El-Yaniv, "Deep anomaly detection using geometric transformations", 2018,
:doi:`10.48550/arXiv.1805.10917`
"""

import torch


def transformations(height, width):
    """Every combination of a turn and a move, as permutations of the pixels.

    The turns are those by quarters, or for images that are not square, the mirror
    images; the moves are those by a quarter of the image in both directions, and none,
    with what leaves the image on one side coming in on the other.

    Returns
    -------
    table : tensor of shape (n, height * width), int64
        Where each pixel comes from. All are different: 36 for images of at least 4x4
        pixels, a single one for an image of one pixel.
    """
    pixels = torch.arange(height * width).view(height, width)
    if height == width:
        turned = [pixels.rot90(quarters) for quarters in range(4)]
    else:
        turned = [pixels.flip(dims) for dims in ((), (0,), (1,), (0, 1))]
    table = [
        image.roll((down, right), (0, 1)).flatten()
        for image in turned
        for down in (0, height // 4, -(height // 4))
        for right in (0, width // 4, -(width // 4))
    ]
    return torch.stack(table).unique(dim=0)


def transform(x, origins):
    """Permute the pixels of images, each in its own way.

    Parameters
    ----------
    x : tensor of shape (n, channels, height, width)
    origins : tensor of shape (n, height * width) or (1, height * width)
        Rows of `transformations`.

    Returns
    -------
    transformed : tensor, shaped like x
    """
    origins = origins[:, None].expand(len(x), x.shape[1], -1)
    return x.flatten(2).gather(2, origins).view_as(x)
