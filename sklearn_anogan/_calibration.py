# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a detector knows of held-out normal images, and what follows from it.

Held-out images of one group are alike, so that each tells less of unseen images. They
share the weight of one image: a group counts as much as a single image without a
group. This keeps the promise of conformal p-values for images of unseen groups (R.
Dunn, L. Wasserman, A. Ramdas, "Distribution-free prediction sets for two-layer
hierarchical models", 2023, :doi:`10.1080/01621459.2022.2060112`).
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from ._plain import expect, take, take_under, truth

#: Share of unseen normal images that ``contamination="auto"`` allows below the
#: threshold.
AUTO_CONTAMINATION = 0.05

#: Folds, at most, in which held-out images are left out in turn, to compare them with
#: new images.
_MOST_FOLDS = 10

#: Prefix of the arrays of a calibration that has been replaced.
_REPLACED = "replaced."

#: Shares of pixels that the thresholds of maps are kept for, in descending order.
PIXEL_SHARES = np.append(np.geomspace(1, 1e-6, 241), 0.0)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured on normal images that were held out of the training.

    Attributes
    ----------
    held_out : dict
        Name -> ndarray of shape (m,), float64: a value of each held-out image, as if
        the image were new. A name is the name of a term, or "score".
    groups : ndarray of shape (m,), int64
        Number of each image's group, from 0 on.
    has_groups : bool
        Whether the user has told which images are of one group.
    is_held_out : bool
        Whether the training has not seen these images.
    parameters : dict
        Parameters that the values depend on, with the values that they had.
    learned : dict
        Name as in `held_out` -> name -> float64 tensor: what the term has learned of
        the held-out images.
    replaced : Calibration or None
        The calibration of `fit`, if `calibrate` has replaced it.
    """

    held_out: dict
    groups: np.ndarray
    has_groups: bool
    is_held_out: bool
    parameters: dict
    learned: dict = field(default_factory=dict)
    replaced: "Calibration | None" = None

    @property
    def all(self):
        """The calibration itself, and the replaced one if there is one."""
        return [self] if self.replaced is None else [self, self.replaced]

    @property
    def n_groups(self):
        """Number of groups, or of images that are on their own."""
        return int(self.groups.max()) + 1

    @property
    def smallest_p_value(self):
        """The p-value of an image that looks more abnormal than all held-out ones."""
        return 1 / (self.n_groups + 1)

    @property
    def of_fit(self):
        """The calibration of `fit`."""
        return self.all[-1]

    @property
    def weights(self):
        """The weight of each image (m,): 1, shared by the images of a group."""
        return 1 / np.bincount(self.groups)[self.groups]

    def to_plain(self):
        """The record for JSON, without `parameters`, and its tensors by name."""
        tensors = {
            f"held_out.{name}": torch.from_numpy(values)
            for name, values in self.held_out.items()
        }
        tensors["groups"] = torch.from_numpy(self.groups.astype(np.float64))
        for term, learned in self.learned.items():
            for name, tensor in learned.items():
                tensors[f"learned.{term}.{name}"] = tensor
        plain = {
            "names": [*self.held_out],
            "has_groups": self.has_groups,
            "is_held_out": self.is_held_out,
        }
        if self.replaced is not None:
            plain["replaced"], of_replaced = self.replaced.to_plain()
            tensors |= {
                f"{_REPLACED}{name}": each for name, each in of_replaced.items()
            }
        return plain, tensors

    @classmethod
    def from_plain(cls, plain, tensors, parameters, shapes):
        """The record from its plain form; takes its tensors out of ``tensors``.

        Parameters
        ----------
        plain : dict
        tensors : dict
        parameters : list of dict
            Of this calibration, and of the replaced one if there is one.
        shapes : dict
            Name in `held_out` -> name -> shape of what the term has learned.

        Raises
        ------
        Exception
            Of any kind, if the plain form does not fit together.
        """
        held_out, length = {}, None
        for name in shapes:
            values = take(tensors, f"held_out.{name}", (length,))
            held_out[name], length = values.numpy(), len(values)
        groups = take(tensors, "groups", (length,)).numpy()
        numbers = np.unique(groups)
        expect("numbers of groups", [*numbers], [*range(len(numbers))])
        learned = {
            term: {
                name: take(tensors, f"learned.{term}.{name}", shape)
                for name, shape in of_term.items()
            }
            for term, of_term in shapes.items()
        }
        own, *of_replaced = parameters
        expect("a replaced calibration", "replaced" in plain, bool(of_replaced))
        replaced = None
        if of_replaced:
            under = take_under(tensors, _REPLACED)
            replaced = cls.from_plain(plain["replaced"], under, of_replaced, shapes)
            expect("arrays of the replaced calibration that are left", {*under}, set())
        is_so = [truth(plain[name]) for name in ("has_groups", "is_held_out")]
        groups = groups.astype(np.int64)
        return cls(held_out, groups, *is_so, own, learned, replaced)


def folds_of(groups):
    """Masks of held-out images that are left out together, none of a group alone.

    Parameters
    ----------
    groups : ndarray of shape (m,)
        Number of each held-out image's group, from 0 on.

    Returns
    -------
    folds : list of ndarrays of shape (m,), bool
        A single fold of all images if there is a single group.
    """
    n_folds = min(_MOST_FOLDS, groups.max() + 1)
    return [groups % n_folds == fold for fold in range(n_folds)]


def conformal_p_values(folds, weights):
    """Conformal p-values of new images.

    Each held-out image is compared with the new images by scores that do not depend on
    this held-out image, so that neither has an advantage (R. F. Barber, E. J. Candès,
    A. Ramdas, R. J. Tibshirani, "Predictive inference with the jackknife+", 2021,
    :doi:`10.1214/20-AOS1965`).

    Parameters
    ----------
    folds : iterable of (is_in_fold, held_out, scores)
        A mask of the m held-out images, their scores (number in the fold,), and the
        scores of the new images (n,), all by the same calibration.
    weights : ndarray of shape (m,)
        Of the held-out images.

    Returns
    -------
    p : ndarray of shape (n,)
        At least 1 / (1 + sum of the weights), and at most 1.
    """
    n_at_most = 0.0
    for is_in_fold, held_out, scores in folds:
        order = np.argsort(held_out)
        cumulated = np.cumsum(np.append(0, weights[is_in_fold][order]))
        ranks = np.searchsorted(held_out[order], scores, side="right")
        n_at_most = n_at_most + cumulated[ranks]
    # Thirds do not add up to exactly 1.
    return np.round(1 + n_at_most, 9) / np.round(1 + weights.sum(), 9)


def threshold_for_unseen(held_out, weights):
    """The score that 5 % of unseen images are expected below.

    The n sorted scores leave n + 1 gaps, and a new image falls into each gap with the
    same probability. So the k-th score has an expected share of k / (n + 1) of new
    images below it (Weibull 1939). With fewer than 19 scores, the answer is the lowest.

    Parameters
    ----------
    held_out : ndarray of shape (m,)
        Scores of held-out images.
    weights : ndarray of shape (m,)
    """
    order = np.argsort(held_out)
    wanted = AUTO_CONTAMINATION * (1 + weights.sum())
    return float(np.interp(wanted, np.cumsum(weights[order]), held_out[order]))


def quantiles_of_maps(maps):
    """The values that shares of the pixels lie above, for each of `PIXEL_SHARES`.

    Parameters
    ----------
    maps : ndarray of any shape
        Maps of held-out images, each as if the image were new.

    Returns
    -------
    quantiles : tensor of shape (n_shares,), float64
    """
    levels = 1 - PIXEL_SHARES
    quantiles = np.quantile(maps, levels, method="higher")
    return torch.from_numpy(quantiles.astype(np.float64))


def map_threshold_at(quantiles, share):
    """The lowest of the quantiles with at most this share of the pixels above it."""
    return float(quantiles[np.argmax(PIXEL_SHARES <= share * (1 + 1e-9))])
