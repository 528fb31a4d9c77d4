# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Which images are held out of the training, to calibrate scores with."""

import numpy as np
import torch

#: Most images that are held out: they take longer to search than to train with.
MOST_HELD_OUT = 1000

#: Share of the images that held-out groups may have together.
_MOST_OF_ALL = 0.6

#: Fewer images all train and calibrate.
FEWEST = 8


def n_held_out(n):
    """How many of n images, or of n groups of images, are held out.

    The largest of these: a tenth, but at most 999; a quarter, but at most 99; 45 %, but
    at most 39; half, but at most 19. From 19 on, the number is rounded down to one less
    than a multiple of 20, so that p-values can be .05 exactly.
    """
    m = max(
        min(n // 10, MOST_HELD_OUT),
        min(n // 4, 99),
        min(9 * n // 20, 39),
        min(n // 2, 19),
    )
    return m if m < 19 else (m + 1) // 20 * 20 - 1


def n_needed(m):
    """The fewest images, or groups, of which m are held out."""
    return next(n for n in range(m, 10 * m + 1) if n_held_out(n) >= m)


def hold_out(n, groups=None):
    """Places of the images to train on, and of the images to calibrate with.

    No group has images in both. The answer depends on nothing but n and the groups.

    Parameters
    ----------
    n : int
        Number of images.
    groups : ndarray of shape (n,) or None
        Number of each image's group, from 0 on, of at least two groups. None if each
        image stands for itself; then fewer than 8 images all train and calibrate.

    Returns
    -------
    training, held_out : ndarrays of int
    """
    if groups is None and n < FEWEST:
        return np.arange(n), np.arange(n)
    groups = np.arange(n) if groups is None else groups
    sizes, rng = np.bincount(groups), np.random.RandomState(0)
    n_wanted = n_held_out(len(sizes))
    chosen, n_chosen = [], 0
    for group in rng.permutation(len(sizes)):
        if len(chosen) == n_wanted:
            break
        if n_chosen + sizes[group] <= _MOST_OF_ALL * n:  # a very large group trains
            chosen.append(group)
            n_chosen += sizes[group]
    is_held_out = np.isin(groups, chosen)
    held_out = np.flatnonzero(is_held_out)
    if len(held_out) > MOST_HELD_OUT:
        most = MOST_HELD_OUT // len(chosen)
        of_groups = [held_out[groups[held_out] == group] for group in chosen]
        held_out = np.sort(
            np.concatenate([rng.permutation(of)[:most] for of in of_groups])
        )
    return np.flatnonzero(~is_held_out), held_out


def check_groups(groups, n, *, least, name):
    """Check the user's groups of n images, and number them from 0 on.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
    n : int
    least : int
        Fewest groups accepted.
    name : str
        Of the method, for messages.

    Returns
    -------
    groups : ndarray of shape (n,), int64, or None

    Raises
    ------
    ValueError
        If the number of labels is not that of the images, if labels are missing, or if
        there are fewer groups.
    """
    if groups is None:
        return None
    if isinstance(groups, torch.Tensor):
        groups = groups.detach().cpu()
    # As objects: NumPy would make strings of numbers, and of missing labels.
    labels = np.asarray(groups, dtype=object)
    if labels.shape not in ((n,), (n, 1)):
        raise ValueError(
            f"groups has the shape {labels.shape}, but X has {n} images. {name} needs "
            "the label of each image's group."
        )
    labels = labels.ravel()
    if any(map(is_missing, labels)):
        raise ValueError(
            f"groups has missing labels. {name} needs the label of each image's group. "
            "An image that belongs to no other one has a label of its own."
        )
    try:
        names, first, numbers = np.unique(
            labels, return_index=True, return_inverse=True
        )
    except TypeError as error:
        raise ValueError(
            "groups has labels that cannot be compared with each other. Use all "
            f"numbers or all strings ({error})."
        ) from error
    if len(names) < least:
        raise ValueError(
            f"All images are of the group {names[0]}, but {name} needs at least "
            f"{least} groups: some to train on, the rest to calibrate scores with. "
            "Name smaller groups, or fit without groups."
        )
    # In the order of the images: what the labels are does not matter.
    return np.argsort(np.argsort(first))[numbers]


def is_missing(label):
    """Whether a label is None, NaN, NaT or pandas' NA."""
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError):  # NA is neither equal nor unequal
        return True
