# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How terms are joined to the loss of an image.

The terms of an image have different units and spreads. The paper adds up two terms with
a weight. The calibrated score makes terms comparable first. On normal images that the
networks have not been trained on, each term t is close to log-normal: it is positive,
and its logarithm is roughly symmetric. So t turns into the share of normal images that
would exceed it,

    p(t) = 1 - Phi((log t - m) / s),

with the mean m and the standard deviation s of log t on normal images. Terms are joined
by Fisher's method for independent tests, the sum of -log p (R. A. Fisher, "Statistical
methods for research workers", 1925). A large term counts, and a term below what is
usual can hardly make up for it. Terms that look at the same thing are not independent:
of such a group, the largest -log p is taken.
"""

from dataclasses import dataclass

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

    def loss_of_held_out(self, held_out, terms, model, **parameters):
        """Join the values of the held-out images themselves, each as if it were new."""
        return self.loss(held_out, held_out, terms, model, **parameters)


class RarestOfGroups:
    """The sum over groups of terms of the largest -log p in the group."""

    parameters = ()

    def choose(self, terms, model):
        """Choose the terms of this loss from the defined ones."""
        return [term for term in terms if term.group_in(model) is not None]

    def loss(self, values, held_out, terms, model, **parameters):
        """Join the values of new images. Parameters as for `WeightedSum.loss`."""
        spreads = {term.name: LogNormal.of(held_out[term.name]) for term in terms}
        return self._join(values, spreads, terms, model)

    def loss_of_held_out(self, held_out, terms, model, **parameters):
        """Join the values of the held-out images themselves, each as if it were new."""
        spreads = {
            term.name: LogNormal.without_each(held_out[term.name]) for term in terms
        }
        return self._join(held_out, spreads, terms, model)

    def _join(self, values, spreads, terms, model):
        rarest = {}
        for term in terms:
            surprise = spreads[term.name].surprise(values[term.name])
            group = term.group_in(model)
            rarest[group] = np.maximum(surprise, rarest.get(group, surprise))
        return np.sum([*rarest.values()], axis=0)


@dataclass(frozen=True)
class LogNormal:
    """How the logarithm of a term is distributed over normal images."""

    mean: np.ndarray  # of the logarithm: a number, or one for each image
    std: np.ndarray  # of the same shape

    @classmethod
    def of(cls, values):
        """Measure the distribution of values (n,), at least 0."""
        logs = np.log(values + _TINY)
        return cls._with_scale(logs.mean(), logs.std())

    @classmethod
    def without_each(cls, values):
        """For each image, the distribution of all other images' values.

        Parameters
        ----------
        values : ndarray of shape (n,)
            Of n >= 2 normal images, at least 0.

        Returns
        -------
        distributions : LogNormal
            With arrays of shape (n,).
        """
        n = len(values)
        logs = np.log(values + _TINY)
        centre = logs.mean()
        squares = np.square(logs - centre)
        shift = (centre - logs) / (n - 1)  # of the mean, without the image
        variance = (squares.sum() - squares) / (n - 1) - shift**2
        return cls._with_scale(centre + shift, np.sqrt(np.maximum(variance, 0)))

    @classmethod
    def _with_scale(cls, mean, std):
        # A term that is always the same tells nothing: any scale will do.
        return cls(mean, np.where(std > 1e-6, std, 1.0))

    def surprise(self, values):
        """-log p(t) of values (n,): at least 0; the higher, the rarer."""
        return -norm.logsf((np.log(values + _TINY) - self.mean) / self.std)
