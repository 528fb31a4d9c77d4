# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The deviation in the most unusual place, and the map of places.

The ruler's distances differ from place to place in normal images too: an edge that is
never twice in the same place always has a large distance. So each place is compared
with the same place of held-out normal images, in their standard deviations. Coarse and
fine distances then have the same units, and their weighted sum makes the map.
"""

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch.nn.functional import softplus

from .._calibration import PIXEL_SHARES, quantiles_of_maps
from .._images import resized
from ._deviation import OfPlaces

#: Weight of the fine distances in the map.
_FINE = 0.6

#: Sides in places of the neighbourhoods over which means and standard deviations of
#: coarse and of fine distances are averaged.
_NEIGHBOURHOODS = {"coarse": 3, "fine": 9}

#: Share of the mean standard deviation that is added to each: some places never change.
_SHRINKAGE = 0.01

#: Added to standard deviations: a single image has none.
_TINY = 1e-6


class LargestDeviation(OfPlaces):
    """The largest value of the map of deviations.

    The term learns means and standard deviations of the ruler's distances over held-out
    images, for each place: ``coarse_mean`` and ``coarse_std`` (rows, columns),
    ``fine_mean`` and ``fine_std`` (height, width). It also learns ``map_quantiles``,
    see `quantiles_of_maps`.
    """

    name = "largest_deviation"

    def measure(self, batch, learned):
        coarse, fine = batch.distances
        return deviations(coarse.double(), fine.double(), learned).amax((1, 2))

    def fit(self, pairs, model):
        distances = dict(zip(("coarse", "fine"), pairs.distances, strict=True))
        sums = {name: _sums(of_all) for name, of_all in distances.items()}
        maps, values = (
            np.empty(distances["fine"].shape, np.float32),
            np.empty(len(pairs)),
        )
        for group in np.unique(pairs.groups):
            own = np.flatnonzero(pairs.groups == group)
            of_group = {name: of_all[own] for name, of_all in distances.items()}
            of_others = {}
            for name, of_all in sums.items():
                others = of_all
                if len(pairs) - len(own) > 1:  # a single image has no spread
                    own_sums = _sums(of_group[name])
                    others = [a - b for a, b in zip(of_all, own_sums, strict=True)]
                of_others |= _usual(name, *others)
            of_group = {name: each.double() for name, each in of_group.items()}
            found = deviations(**of_group, learned=of_others)
            maps[own], values[own] = found.numpy(), found.amax((1, 2)).numpy()
        learned = {"map_quantiles": quantiles_of_maps(maps)}
        for name, of_all in sums.items():
            learned |= _usual(name, *of_all)
        return learned, values

    def shapes(self, model):
        rows_and_columns = {
            "coarse": model.ruler.grid,
            "fine": model.ruler.size,
        }
        return {"map_quantiles": PIXEL_SHARES.shape} | {
            f"{name}_{what}": shape
            for name, shape in rows_and_columns.items()
            for what in ("mean", "std")
        }


def deviations(coarse, fine, learned):
    """The map of deviations.

    Parameters
    ----------
    coarse : tensor of shape (n, rows, columns), float64
    fine : tensor of shape (n, height, width), float64
        Distances of a `Ruler`.
    learned : dict
        Of `LargestDeviation`.

    Returns
    -------
    maps : tensor of shape (n, height, width), float64
        At least 0. Where an image deviates more than usual, by how many standard
        deviations of normal images. Where it deviates less, the map falls towards 0,
        and the order of the places is kept: log(1 + exp(standard deviations)).
    """

    def standardised(name, distances):
        mean, std = (
            learned[f"{name}_{what}"].to(distances.device) for what in ("mean", "std")
        )
        return (distances - mean) / std

    of_places = resized(standardised("coarse", coarse)[:, None], fine.shape[1:])[:, 0]
    sums = of_places + _FINE * standardised("fine", fine)
    # One by one: the last values of a block would be rounded differently.
    return torch.cat([softplus(each) for each in sums.split(1)])


def deviation_map(x, z, G_z, networks, learned, dtype):
    """Map of deviations; an answer for `search_in_blocks`.

    Parameters
    ----------
    x, z, G_z : tensors of shape (n, ...)
        Images, codes and generated images; only the images count.
    networks : FrozenNetworks
    learned : dict
        Of `LargestDeviation`.
    dtype : torch.dtype
        Of the maps.

    Returns
    -------
    answer : dict
        ``maps`` (n, 1, height, width).
    """
    coarse, fine = networks.distances(x)
    maps = deviations(coarse.double(), fine.double(), learned)
    maps = resized(maps[:, None], x.shape[2:])
    return {"maps": maps.to(dtype)}


def _sums(distances):
    """Sum and sum of squares over images, and the number of images."""
    total, squares = 0.0, 0.0
    for each in distances:
        total, squares = total + each.double(), squares + each.double().square()
    return total, squares, len(distances)


def _usual(name, total, squares, n):
    """Mean and standard deviation in each place, averaged over its neighbourhood."""
    mean = total / n
    std = (squares / n - mean.square()).clamp(min=0).sqrt()
    mean, std = (
        torch.from_numpy(
            uniform_filter(each.cpu().numpy(), _NEIGHBOURHOODS[name], mode="nearest")
        )
        for each in (mean, std)
    )
    return {
        f"{name}_mean": mean,
        f"{name}_std": std + _SHRINKAGE * std.mean() + _TINY,
    }
