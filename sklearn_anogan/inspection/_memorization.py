# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Test whether a generator has memorised its training images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from .._base import own_random_state
from .._copies import share_among, share_of_copies
from .._images import check_images
from .._types import ImagesLike, Seed
from .._warnings import warn_user

if TYPE_CHECKING:
    from .._detector import AnoGANDetector

#: Images are copies if they are closer than this share of the usual distance.
_SAME = 1e-3

#: Share of unseen images with near-copies that is told of, and images to compare.
_MANY, _MOST = 0.5, 200


class MemorizationResult(NamedTuple):
    """Result of `memorization_test`, a named tuple.

    Parameters
    ----------
    statistic : float in [0, 1]
        Share of the pairs of a generated and an unseen image in which the generated
        image has the smaller distance to the training images.

    pvalue : float in [0, 1]
        Probability of this share or a larger one if both kinds are equally near.

    generated_distances : ndarray of shape (n_unseen,)
        Distance of each generated image to its nearest training image.

    unseen_distances : ndarray of shape (n_unseen,)
        Distance of each unseen image to its nearest training image.

    See Also
    --------
    memorization_test : Run the test.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.inspection import memorization_test
    >>> X = np.random.RandomState(0).normal(size=(60, 3))
    >>> detector = AnoGANDetector(n_filters=4, max_epochs=20, random_state=0)
    >>> result = memorization_test(detector.fit(X[:50]), X[:50], X[50:], random_state=0)
    >>> nearer = result.unseen_distances[:, None] > result.generated_distances
    >>> bool(np.isclose(result.statistic, nearer.mean()))
    True
    """

    statistic: float
    pvalue: float
    generated_distances: NDArray[np.float64]
    unseen_distances: NDArray[np.float64]


def memorization_test(
    detector: AnoGANDetector,
    X_train: ImagesLike,
    X_unseen: ImagesLike,
    *,
    random_state: Seed = None,
) -> MemorizationResult:
    """Test whether generated images are closer to training images than unseen ones are.

    The generator draws as many images as `X_unseen` has. For generated and for unseen
    images, the Euclidean distance to the nearest training image is computed. The
    one-sided Mann-Whitney test compares the ranks of the distances, as [1]_ proposes.

    A small p-value means that generated images are nearer to the training images than
    new images can be: the generator copies. A statistic near 0 means that generated
    images are further away: the generator has not memorised, but is not good either.

    Parameters
    ----------
    detector : AnoGANDetector
        A fitted detector.

    X_train : array-like or tensor of n images
        Images that `detector` was fitted to.

    X_unseen : array-like or tensor of n_unseen images
        Normal images of the same kind that `detector` was not fitted to.

    random_state : int, RandomState instance or None, default=None
        Seed of the generated images.

    Returns
    -------
    result : MemorizationResult
        ``statistic`` (0.5 if both kinds are equally near, higher if generated images
        are nearer), ``pvalue``, and ``generated_distances`` and ``unseen_distances`` in
        the units of the images.

    Raises
    ------
    NotFittedError
        If `detector` has not been fitted.
    ValueError
        If the images do not have the shape of the images in `fit`, or if half of
        `X_unseen` or more are also in `X_train`.

    Warns
    -----
    UserWarning
        If half of `X_unseen` or more have near-copies in `X_train`, or among each other
        (of images only, not of rows). Such images are no new ones, and the p-value says
        nothing.

    References
    ----------
    .. [1] C. Meehan, K. Chaudhuri, S. Dasgupta, "A non-parametric test to detect
       data-copying in generative models", AISTATS 2020.
       :doi:`10.48550/arXiv.2004.05675`

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.inspection import memorization_test
    >>> digits = load_digits()
    >>> zeros = digits.images[digits.target == 0]
    >>> detector = AnoGANDetector(max_epochs=100, random_state=0).fit(zeros[:120])
    >>> result = memorization_test(detector, zeros[:120], zeros[120:], random_state=0)
    >>> 0 <= result.pvalue <= 1
    True
    """
    check_is_fitted(detector)
    rng = own_random_state(random_state)

    def flat(X):
        images = check_images(
            X,
            detector.image_shape_,
            n_features=detector.n_features_in_,
            min_samples=1,
            estimator_name="memorization_test",
        )
        return np.concatenate([block.flatten(1).cpu() for block in images.blocks()])

    train, unseen = flat(X_train), flat(X_unseen)
    generated = flat(detector.sample(len(unseen), random_state=rng))
    neighbors = NearestNeighbors(n_neighbors=1).fit(train)
    of_generated, of_unseen = (
        neighbors.kneighbors(X)[0][:, 0] for X in (generated, unseen)
    )
    # Distances of copies are rounded, and need not be 0.
    usual = np.median(neighbors.kneighbors()[0]) if len(train) > 1 else 0.0
    n_copies = int((of_unseen <= _SAME * usual).sum())
    if n_copies >= len(unseen) / 2:
        raise ValueError(
            f"{n_copies} of {len(unseen)} images of X_unseen are also in X_train. The "
            "test needs images that the detector has not been fitted to."
        )
    if detector.model_.layout.has_places:
        _tell_of_copies(unseen, train)
    u, pvalue = mannwhitneyu(of_unseen, of_generated, alternative="greater")
    statistic = u / (len(of_unseen) * len(of_generated))
    return MemorizationResult(float(statistic), float(pvalue), of_generated, of_unseen)


def _tell_of_copies(unseen, train):
    """Warn if unseen images (n, n_values) have near-copies."""
    among_training = share_of_copies(unseen[:: 1 + len(unseen) // _MOST], [train])
    among_unseen = share_among(unseen)
    for share, where in ((among_training, "X_train"), (among_unseen, "X_unseen")):
        if share >= _MANY:
            warn_user(
                f"{share:.0%} of the images of X_unseen have near-copies in {where}, "
                "so that they do not stand for new images: the p-value says nothing "
                "of the generator. Keep near-copies on one side, in X_train or in "
                "X_unseen, and one of each in X_unseen."
            )
