# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Normal images that a model keeps, for new images to be compared with."""

import numpy as np
import torch

from ._images import resized, within

#: Longest side in pixels of the kept images.
_LONGEST_SIDE = 8

#: Most images that are kept, and most numbers in all of them.
_MOST, _MOST_VALUES = 10_000, 2**22


def described(x):
    """Images (n, channels, height, width) by numbers (n, d): their pixels, if small."""
    return resized(x, within(*x.shape[2:], _LONGEST_SIDE)).flatten(1)


def n_numbers(chw):
    """How many numbers `described` gives for an image."""
    channels, *size = chw
    height, width = within(*size, _LONGEST_SIDE)
    return channels * height * width


def learn_samples(as_seen, index):
    """Describe training images.

    Parameters
    ----------
    as_seen : callable
        ``as_seen(index)`` are the images as `TrainingImages`, as the networks see them.
    index : ndarray of shape (n,)
        Of the training images. Of many, some are taken.

    Returns
    -------
    samples : tensor of shape (m, d), float32, on the CPU
    """
    images = as_seen(index)
    d = n_numbers((images.images.layout.chw[0], *images.size))
    n = min(len(index), _MOST, max(1, _MOST_VALUES // d))
    rows = np.linspace(0, len(index) - 1, n).round().astype(int)
    blocks = [described(block).cpu() for block in as_seen(index[rows]).blocks()]
    return torch.cat([torch.empty(0, d), *blocks])
