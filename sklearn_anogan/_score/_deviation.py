# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How far an image deviates from normal ones, as the ruler of places measures it."""

from ._term import Term


class Deviation(Term):
    """Root mean square of the ruler's coarse distances over all places."""

    name = "deviation"
    group = "places"
    sees_details = True

    def is_defined(self, model):
        return model.ruler is not None

    def measure(self, batch, learned):
        coarse, _ = batch.distances
        return coarse.double().square().mean((1, 2)).sqrt()
