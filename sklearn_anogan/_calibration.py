# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Loss terms made comparable, by what normal images leave of them.

The terms of an image have different units and spreads. On normal images that the
networks have not been trained on, each is close to log-normal: it is positive, and its
logarithm is roughly symmetric. So a term t turns into the share of normal images that
would exceed it,

    p(t) = 1 - Phi((log t - m) / s),

with m and s the mean and standard deviation of log t on normal images, and the terms
are joined by Fisher's method for independent tests, the sum of -log p (R. A. Fisher,
"Statistical methods for research workers", 1925). A term that is large counts; one
below what is usual can hardly make up for it. Of terms that look at the same
difference, as a whole and in its most unusual place, the larger -log p is taken.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.stats import norm

#: Added before logarithms: a term may be 0.
_TINY = 1e-12

#: Share of the mean over all places that is added to the mean square in each place.
_SHRINKAGE = 0.03


class Calibration(NamedTuple):
    """How the logarithms of the terms of normal images are distributed."""

    mean: np.ndarray  # (n_terms,), or a row for each image
    std: np.ndarray  # of the same shape

    @classmethod
    def of(cls, terms):
        """Measure it.

        Parameters
        ----------
        terms : ndarray of shape (n, n_terms)
            Of normal images, at least 0.
        """
        logs = np.log(terms + _TINY)
        return cls._with_scale(logs.mean(axis=0), logs.std(axis=0))

    @classmethod
    def of_the_others(cls, terms):
        """Measure it for each image without that image, which is as if it were new.

        Parameters
        ----------
        terms : ndarray of shape (n, n_terms)
            Of n >= 2 normal images.

        Returns
        -------
        calibration : Calibration
            With arrays of shape (n, n_terms).
        """
        n = len(terms)
        logs = np.log(terms + _TINY)
        centre = logs.mean(axis=0)
        squares = np.square(logs - centre)
        shift = (centre - logs) / (n - 1)  # of the mean, without the image
        variance = (squares.sum(axis=0) - squares) / (n - 1) - shift**2
        return cls._with_scale(centre + shift, np.sqrt(np.maximum(variance, 0)))

    @classmethod
    def _with_scale(cls, mean, std):
        # A term that is always the same tells nothing: any scale will do.
        return cls(mean, np.where(std > 1e-6, std, 1.0))


def residual_scale(differences):
    """What normal images differ by from generated ones, place by place.

    The root of the mean square, which is smoothed over 5x5 pixels and drawn a little
    towards its mean over all places: where no normal image has anything, any difference
    would else be beyond measure.

    Parameters
    ----------
    differences : ndarray of shape (n, channels, height, width)

    Returns
    -------
    scale : ndarray of shape (channels, height, width), float64
        Above 0.
    """
    return _scale(np.square(differences, dtype=np.float64).mean(axis=0))


def residual_scales_without(differences):
    """For each image, the `residual_scale` that the others make.

    An image that has had its share in the scale looks more usual by it than a new one.

    Parameters
    ----------
    differences : ndarray of shape (n, channels, height, width)

    Yields
    ------
    scale : ndarray of shape (channels, height, width), float64
        Of a single image, its own.
    """
    n = len(differences)
    total = np.square(differences, dtype=np.float64).sum(axis=0)
    for difference in differences:
        own = np.square(difference, dtype=np.float64)
        yield _scale(np.maximum(total - own, 0) / (n - 1) if n > 1 else own)


def _scale(squares):
    squares = uniform_filter(squares, (1, 5, 5), mode="nearest")
    return np.sqrt(squares + _SHRINKAGE * squares.mean() + _TINY)


def calibrated_loss(terms, calibration):
    """Join terms by how unusual each one is among normal images.

    Parameters
    ----------
    terms : ndarray of shape (n, n_terms)
        At least 0. All but the last look at the same difference.
    calibration : Calibration

    Returns
    -------
    loss : ndarray of shape (n,)
        At least 0; the higher, the more abnormal.
    """
    z = (np.log(terms + _TINY) - calibration.mean) / calibration.std
    *of_difference, other = -norm.logsf(z).T
    return np.maximum.reduce(of_difference) + other
