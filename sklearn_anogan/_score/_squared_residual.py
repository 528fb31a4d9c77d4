# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The difference of the pixels as a whole."""

from .._losses import smooth
from ._term import Term


class SquaredResidual(Term):
    """Mean square of the difference of the pixels, smoothed over 3x3 pixels."""

    name = "squared_residual"
    group = "residual"

    def measure(self, batch, learned):
        return smooth(batch.seen.double() - batch.G_z.double()).square().mean((1, 2, 3))
