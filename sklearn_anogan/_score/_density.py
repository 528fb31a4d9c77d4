# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How far away the nearest normal images are.

A generator is continuous: between two kinds of normal images it draws a bridge. What
lies on the bridge is close to a generated image, but not to a normal one.

The distance from the nearest normal images has to be seen relative to how far apart
they are: among scattered images, a larger distance is usual. This is the idea of the
local outlier factor (M. M. Breunig et al. 2000, :doi:`10.1145/335191.335388`). But the
ratio of both distances makes an outlier of everything beside a few copies. So the mean
over all normal images is added to the distance between them:

    d(x) / (mean of d(x_i) + mean of d over all normal images),

with d(x) the mean distance from x to its five nearest normal images x_1, ..., x_5.

Distances of rows are sums of absolute differences, so that a single column does not
decide. Columns are scaled by their standard deviation and by their range, the geometric
mean of both: by the standard deviation alone, columns that are seldom other than 0
would count most.
"""

from math import prod

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from .._samples import described, n_numbers
from ._term import Term

#: Neighbours that distances are averaged over.
_N_NEIGHBOURS = 5

#: Weight in the calibrated score, for rows and for images of at most so many pixels.
#: Distances tell less about larger images.
_WEIGHT, _FEW_PIXELS = 4.0, 64

#: Images are copies if they are closer than this share of the mean distance.
_SAME = 1e-6

#: Held-out images whose distances are computed at once.
_BLOCK = 64


class Density(Term):
    """Distance from the nearest normal images, relative to their own distances.

    Normal images are the training images that the model keeps, and the held-out ones.
    The term learns ``samples`` (m, d), the held-out images, ``scale`` (d,), what all
    numbers are divided by, and ``distances`` (n,), from each normal image to its
    neighbours.
    """

    name = "density"
    group = "density"

    def weight_in(self, model):
        n_pixels = prod(model.seen_chw[1:])
        return super().weight_in(model) * _WEIGHT * min(1, _FEW_PIXELS / n_pixels)

    def measure(self, batch, learned):
        learned = {name: each.cpu().numpy() for name, each in learned.items()}
        kept = batch.networks.samples.cpu().double().numpy()
        normal = np.concatenate([kept, learned["samples"]]) / learned["scale"]
        x = described(batch.seen).cpu().double().numpy() / learned["scale"]
        found = cdist(x, normal, _metric(batch.seen.shape[1:]))
        values = relative_distances(found, learned["distances"])
        return torch.from_numpy(values).to(batch.x.device)

    def fit(self, pairs, model):
        samples = pairs.map(_samples)["samples"].double()
        kept = model.samples.double()
        normal = torch.cat([kept, samples]).numpy()
        scale = np.ones(normal.shape[1])
        if not model.layout.has_places:
            # Held-out rows have no say, or they would look more usual than new ones.
            scale = _scale_of_columns(kept.numpy())
        normal, metric = normal / scale, _metric(model.seen_chw)
        n_neighbors = min(_N_NEIGHBOURS, len(normal) - 1)
        neighbours = NearestNeighbors(n_neighbors=n_neighbors, metric=metric)
        distances = neighbours.fit(normal).kneighbors()[0].mean(axis=1)
        held_out = normal[len(kept) :]
        values = []
        for block in gen_batches(len(held_out), _BLOCK):
            found = cdist(held_out[block], normal, metric)
            # Images of the same group stay out: a new image comes from another one.
            is_mate = pairs.groups[block, None] == pairs.groups
            found[:, len(kept) :][is_mate] = np.inf
            values.append(relative_distances(found, distances))
        learned = {
            "samples": samples,
            "scale": torch.from_numpy(scale),
            "distances": torch.from_numpy(distances),
        }
        return learned, np.concatenate(values)

    def shapes(self, model):
        n = n_numbers(model.seen_chw)
        return {"samples": (None, n), "scale": (n,), "distances": (None,)}


def relative_distances(found, distances):
    """Mean distance to the nearest normal images, relative to their own distances.

    Parameters
    ----------
    found : ndarray of shape (n, m)
        Distances of n images from m normal ones; infinite for normal images that do
        not count. If normal images are copies of an image, one copy does not count: a
        normal image is not its own neighbour.
    distances : ndarray of shape (m,)
        Mean distance of each normal image to its own neighbours.

    Returns
    -------
    values : ndarray of shape (n,)
        At least 0.
    """
    mean = distances.mean() or 1.0  # all normal images may be the same
    n_nearest = min(_N_NEIGHBOURS + 1, found.shape[1])
    nearest = np.argpartition(found, n_nearest - 1, axis=1)[:, :n_nearest]
    of_nearest = np.take_along_axis(found, nearest, axis=1)
    order = of_nearest.argsort(axis=1)
    nearest = np.take_along_axis(nearest, order, axis=1)
    of_nearest = np.take_along_axis(of_nearest, order, axis=1)
    is_copy = of_nearest[:, :1] <= _SAME * mean
    is_used = np.isfinite(of_nearest) & (np.arange(n_nearest) >= is_copy)
    is_used &= np.arange(n_nearest) < _N_NEIGHBOURS + is_copy
    n_used = np.maximum(is_used.sum(axis=1), 1)
    d, own = (
        np.where(is_used, each, 0).sum(axis=1) / n_used
        for each in (of_nearest, distances[nearest])
    )
    return d / (own + mean)


def _metric(chw):
    """Name of the distance between images of this shape; a row has a single pixel."""
    return "cityblock" if tuple(chw[1:]) == (1, 1) else "euclidean"


def _scale_of_columns(rows):
    """What columns of rows (n, d) are divided by, (d,)."""
    if len(rows) == 0:
        return np.ones(rows.shape[1])
    scale = np.sqrt(rows.std(axis=0) * np.ptp(rows, axis=0))
    is_known = scale > 0  # of a constant column, nothing is known
    usual = np.median(scale[is_known]) if is_known.any() else 1.0
    return np.where(is_known, scale, usual)


def _samples(x, z, G_z, networks):
    return {"samples": described(networks.seen(x))}
