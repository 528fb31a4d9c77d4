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

Images of another camera are compared with those of `fit` by their distances alone: an
image that is much nearer to another one than images of `fit` are is a near-copy.
"""

import numpy as np
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
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

#: Distance of near-copies, relative to the median distance of neighbours.
_NEAR = 0.05

#: Share of the images of `calibrate` that may be known from `fit`, and so many.
_FEW, _FEWEST = 0.05, 2


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


def tell_of_known_images(model, calibration, groups):
    """Warn if images of `calibrate` are images of `fit`, or copies of each other.

    Parameters
    ----------
    model : Model
    calibration : Calibration
        By the images of `calibrate`.
    groups : ndarray of shape (n,) or None
        Number of each image's group: images of one group may be copies.
    """
    # What the density has kept of the images: they need not be read again.
    now, of_fit = (
        each.learned["density"]["samples"].numpy()
        for each in (calibration, calibration.of_fit)
    )
    trained = model.samples.numpy()
    if model.layout.has_places and len(trained) > 1:
        tell_of_known(len(now), *compare(now, trained, of_fit, groups))


def compare(images, trained, held_out, groups=None):
    """How many images are known, and the share that has near-copies among them.

    Held-out images are as good as new ones: only beside images that `fit` has trained
    on, they are counted too.

    Parameters
    ----------
    images : ndarray of shape (n, n_values)
    trained : ndarray of shape (m, n_values), m > 1
        Images that `fit` has trained on.
    held_out : ndarray of shape (k, n_values)
        Images that `fit` has held out.
    groups : ndarray of shape (n,) or None
        Number of each image's group.
    """
    n, neighbours = len(images), NearestNeighbors(n_neighbors=1).fit(trained)
    own = neighbours.kneighbors(_some(trained, _MOST_HELD_OUT), n_neighbors=2)[0][:, 1]
    near = _NEAR * np.median(own)
    if near == 0:  # images of fit have copies: so may new images
        return 0, 0.0
    is_known = neighbours.kneighbors(images)[0][:, 0] <= near
    if is_known.sum() >= max(_FEWEST, _FEW * n) and len(held_out):
        others = NearestNeighbors(n_neighbors=1).fit(held_out).kneighbors(images)[0]
        is_known |= others[:, 0] <= near
    n_known = int(is_known.sum())
    if (share := share_of_copies(_some(images, _MOST_HELD_OUT), [trained])) >= _MANY:
        n_known = max(n_known, round(share * n))
    if groups is not None:
        images = images[np.unique(groups, return_index=True)[1]]
    images = _some(images, _MOST_TRAINING)
    return n_known, max(share_near(images, near), share_among(images))


def tell_of_known(n, n_known, share):
    """Warn if many of n images of `calibrate` are known, or the share of copies is."""
    if n_known >= max(_FEWEST, _FEW * n):
        warn_user(
            f"{n_known} of {n} images of X are images of fit, or near-copies of them. "
            "They look more normal than new images, and predict and p_values will give "
            "more false alarms than they promise. Call calibrate with images that fit "
            "has not seen."
        )
    if share >= _MANY:
        warn_user(
            f"{share:.0%} of the images of X are near-copies of others in X, so that "
            "thresholds rest on few different images. New images will look less "
            "normal, and predict and p_values will give more false alarms than they "
            "promise. Keep one image of each, or give near-copies the same label in "
            "groups."
        )


def share_near(images, near):
    """The share of images (n, n_values) that lie within a distance of another one."""
    if len(images) < 2:
        return 0.0
    neighbours = NearestNeighbors(n_neighbors=1).fit(images)
    return float(np.mean(neighbours.kneighbors()[0] <= near))


def share_among(images):
    """The share of images (n, n_values) that have near-copies among the others.

    Every other image is taken for one that is held out.
    """
    if len(images) < 2:
        return 0.0
    halves = _some(images[::2], _MOST_HELD_OUT), _some(images[1::2], _MOST_TRAINING)
    return share_of_copies(halves[0], [halves[1]])


def _blocks_of_some(images, most):
    """Yield rows of numbers, of at most so many of the images."""
    numbers = _some(np.arange(len(images)), most)
    for block in gen_batches(len(numbers), images.images.block_size()):
        yield images.__getitems__(numbers[block]).flatten(1).cpu().numpy()


def _some(images, most):
    """So many images at most, from the first to the last."""
    return images[np.linspace(0, len(images) - 1, min(len(images), most)).astype(int)]


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
