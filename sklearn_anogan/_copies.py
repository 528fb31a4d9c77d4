# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Near-copies of held-out images among the training images.

A held-out image stands for a new one only if the training has not seen almost the same
image. Copies show in the distances from a held-out image to the training images, in
ascending order: from the last copy to the first image of another origin, the distance
jumps. Without copies, the logarithms of the ratios of neighbouring distances are
small: the k-th is exponential with mean 1 / (k d), where the images fill d dimensions
(E. Levina, P. J. Bickel, "Maximum likelihood estimation of intrinsic dimension", 2004).
So a jump counts if it is large in itself, and large for this dimension as well.

Distances cannot tell copies of a few images from images of a few kinds.
"""

import numpy as np
from sklearn.metrics import pairwise_distances
from sklearn.utils import gen_batches

from ._warnings import warn_user

#: Most held-out images, and most training images, to compare.
_MOST_HELD_OUT, _MOST_TRAINING = 200, 10_000

#: Copies of an image that are looked for at most.
_MOST_COPIES = 200

#: Ratio of distances that is a jump, and logarithm of a ratio relative to its mean.
_JUMP, _SURPRISE = 1.5, 3.0

#: Share of held-out images with copies that is told of: some are alike by chance.
_MANY = 0.5

#: Distance, relative to the mean of all, of an image that is the same.
_SAME = 1e-3


def tell_of_copies(held_out, training, has_groups):
    """Warn if most held-out images have near-copies among the training images.

    Parameters
    ----------
    held_out, training : TrainingImages
        As the networks see them.
    has_groups : bool
        Whether the user has told which images belong together.
    """
    some = np.concatenate([*_blocks_of_some(held_out, _MOST_HELD_OUT)])
    share = share_of_copies(some, _blocks_of_some(training, _MOST_TRAINING))
    advice = (
        "Give near-copies the same label in groups"
        if has_groups
        else "If X shows patients, parts or videos several times, tell which by "
        "fit(X, groups=labels)"
    )
    if share >= _MANY:
        warn_user(
            f"{share:.0%} of the images held out of the training have near-copies "
            "among the training images. New images that have none will look less "
            "normal, and predict and p_values will give more false alarms than they "
            f"promise. {advice}, or keep one image of each."
        )


def _blocks_of_some(images, most):
    """Yield rows of numbers, of at most so many of the images."""
    numbers = np.linspace(0, len(images) - 1, min(len(images), most)).astype(int)
    for block in gen_batches(len(numbers), images.images.block_size()):
        yield images.__getitems__(numbers[block]).flatten(1).cpu().numpy()


def share_of_copies(held_out, blocks):
    """The share of held-out images that have near-copies among the training images.

    Parameters
    ----------
    held_out : ndarray of shape (m, n_values)
    blocks : iterable of ndarrays of shape (n, n_values)
        The training images.

    Returns
    -------
    share : float
        0 if there are too few images to tell.
    """
    distances = np.sort(
        np.hstack([pairwise_distances(held_out, block) for block in blocks])
    )
    n_ranks = min(_MOST_COPIES, distances.shape[1] // 2)
    if n_ranks < 2:
        return 0.0
    if not distances.any():  # alike as the networks see them
        return 1.0
    tiny = _SAME * distances.mean()
    logs = np.log(distances[:, : n_ranks + 1] + tiny)
    per_rank = np.diff(logs) * np.arange(1, n_ranks + 1)
    inverse_dimension = per_rank.mean()
    is_large = np.diff(logs) > np.log(_JUMP)
    jumps = is_large & (per_rank > _SURPRISE * inverse_dimension)
    return float(np.mean(jumps.any(1) | (distances[:, 0] < tiny)))
