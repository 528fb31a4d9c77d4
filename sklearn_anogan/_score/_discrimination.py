# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The paper's discrimination term."""

from .._losses import discrimination_loss
from ._term import Term


class Discrimination(Term):
    """Mean absolute difference of D's features, equation (4) of Schlegl et al. 2017.

    In the calibrated score, the term stands in for the recognition where the
    discriminator has no second task.
    """

    name = "discrimination"

    def group_in(self, model):
        return "features" if model.recognizer is None else None

    def measure(self, batch, learned):
        f = batch.networks.discriminator.features
        return discrimination_loss(f(batch.seen).double(), f(batch.G_z).double())
