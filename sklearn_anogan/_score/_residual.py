# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The paper's residual term."""

from .._losses import residual_loss
from ._term import Term


class Residual(Term):
    """Mean absolute difference of the pixels, equation (2) of Schlegl et al. 2017."""

    name = "residual"

    def measure(self, batch, learned):
        return residual_loss(batch.seen.double(), batch.G_z.double())
