# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How far an image deviates from normal ones, as the ruler of places measures it."""

import torch

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
        return _size(coarse)

    def fit(self, pairs, model):
        coarse, _ = pairs.distances
        return {}, torch.cat([_size(each) for each in coarse.split(1)]).numpy()


def _size(coarse):
    return coarse.double().square().mean((1, 2)).sqrt()
