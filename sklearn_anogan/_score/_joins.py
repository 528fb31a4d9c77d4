# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How terms are joined to the loss of an image.

The terms of an image have different units and spreads. The paper adds up two terms with
a weight. The calibrated score makes terms comparable first, on normal images that the
networks have not been trained on. On these, a term t is close to log-normal: it is
positive, and its logarithm is roughly symmetric. So t turns into the share of normal
images that would exceed it,

    p(t) = 1 - Phi(z),    z = (log t - mean of log t) / standard deviation of log t,

with the mean and the standard deviation of held-out images. Beyond their largest z no
image tells how fast p falls. If -log p went on with the square of z, a single term
would decide. So -log p grows linearly from there, by the largest z for each unit of z,
and by at least 1.

Terms are joined by Fisher's method for independent tests, the sum of -log p (R. A.
Fisher, "Statistical methods for research workers", 1925). A large term counts, and a
term below what is usual can hardly make up for it. Terms that look at the same thing
are not independent: of such a group, the largest -log p is taken. What looks at a
shrunk image counts by the share of the pixels that are left.
"""

import numpy as np
from scipy.stats import norm

from .._losses import anogan_loss

#: Added before logarithms: a term may be 0.
_TINY = 1e-12


class WeightedSum:
    """The paper's loss, equation (5) of Schlegl et al. 2017."""

    #: Parameters of the detector that the loss depends on.
    parameters = ("discrimination_weight",)

    def choose(self, terms, model):
        """Choose the terms of this loss from the defined ones."""
        return [term for term in terms if term.name in ("residual", "discrimination")]

    def loss(self, values, held_out, terms, model, *, discrimination_weight):
        """Join the values of new images.

        Parameters
        ----------
        values : dict
            Name of a term -> ndarray of shape (n,).
        held_out : dict
            Name of a term -> ndarray of shape (m,), of held-out normal images.
        terms : list of Term
        model : Model
        discrimination_weight : float

        Returns
        -------
        loss : ndarray of shape (n,)
            At least 0; the higher, the more abnormal.
        """
        terms = values["residual"], values["discrimination"]
        return anogan_loss(*terms, discrimination_weight)


class RarestOfGroups:
    """The sum over groups of terms of the largest -log p in the group."""

    parameters = ()

    def choose(self, terms, model):
        """Choose the terms of this loss from the defined ones."""
        return [term for term in terms if term.group_in(model) is not None]

    def loss(self, values, held_out, terms, model, **parameters):
        """Join the values of new images. Parameters as for `WeightedSum.loss`."""
        rarest = {}
        for term in terms:
            group = term.group_in(model)
            rarity = surprise(values[term.name], held_out[term.name])
            weighted = term.weight_in(model) * rarity
            rarest[group] = np.maximum(weighted, rarest.get(group, weighted))
        return np.sum([*rarest.values()], axis=0)


def surprise(values, held_out):
    """-log p of the values of a term.

    Parameters
    ----------
    values : ndarray of shape (n,)
        At least 0.
    held_out : ndarray of shape (m,)
        Values of the term for normal images, at least 0.

    Returns
    -------
    surprise : ndarray of shape (n,)
        At least 0; the higher, the rarer.
    """
    logs, usual = np.log(values + _TINY), np.log(held_out + _TINY)
    mean, std = usual.mean(), usual.std()
    # A term that is always the same tells nothing: any scale will do.
    scale = std if std > 1e-6 else 1.0
    z, largest = (logs - mean) / scale, (usual.max() - mean) / scale
    beyond = np.maximum(z - largest, 0)
    return max(largest, 1.0) * beyond - norm.logsf(np.minimum(z, largest))
