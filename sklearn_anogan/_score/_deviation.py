# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How far an image deviates from normal ones, as the ruler of places measures it."""

from ._term import Term


class OfPlaces(Term):
    """A term that the ruler of places measures."""

    group = "places"
    sees_details = True

    def is_defined(self, model):
        return model.ruler is not None


class Deviation(OfPlaces):
    """Root mean square of the ruler's coarse distances over all places."""

    name = "deviation"

    def measure(self, batch, learned):
        coarse, _ = batch.distances
        return coarse.double().square().mean((1, 2)).sqrt()
