# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The difference of the pixels as a whole."""

from .._losses import smooth
from ._term import Term

#: Weight beside the ruler of places.
_BESIDE_RULER = 0.25


class SquaredResidual(Term):
    """Mean square of the difference of the pixels, smoothed over 3x3 pixels."""

    name = "squared_residual"
    group = "residual"

    def weight_in(self, model):
        # The ruler of places compares pixels too, and ranks images better.
        return super().weight_in(model) * (
            1.0 if model.ruler is None else _BESIDE_RULER
        )

    def measure(self, batch, learned):
        return smooth(batch.seen.double() - batch.G_z.double()).square().mean((1, 2, 3))
