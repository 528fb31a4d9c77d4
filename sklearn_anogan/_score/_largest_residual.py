# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The difference of the pixels in its most unusual place, and the map of places."""

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from .._calibration import PIXEL_SHARES, quantiles_of_maps
from .._images import resized
from .._losses import smooth
from ._term import Term

#: Share of the mean over all places that is added to the mean square in each place.
_SHRINKAGE = 0.03

#: Added before square roots: a difference may be 0 everywhere.
_TINY = 1e-12


class LargestResidual(Term):
    """Largest difference of the pixels, smoothed, relative to what is usual there.

    The calibrated score does without the term: the ruler of places sees more. The term
    learns ``scale`` (channels, height, width): by how much normal images
    differ from generated ones in each place, see `residual_scale`. Without a ruler, its
    map is the anomaly map, and it learns ``map_quantiles`` too, see
    `quantiles_of_maps`.
    """

    name = "largest_residual"

    def measure(self, batch, learned):
        difference = batch.seen.double() - batch.G_z.double()
        return _largest(difference, learned["scale"].to(difference.device))

    def fit(self, pairs, model):
        n_of_group = np.bincount(pairs.groups)
        totals = dict.fromkeys(range(len(n_of_group)), 0.0)
        for group, difference in zip(pairs.groups, _differences(pairs), strict=True):
            totals[group] = totals[group] + difference.square()
        total, n = sum(totals.values()), len(pairs)
        scales = {
            group: residual_scale(
                (total - own).clamp(min=0) / (n - n_own) if n_own < n else own / n
            )
            for (group, own), n_own in zip(totals.items(), n_of_group, strict=True)
        }
        learned, values, maps = {"scale": residual_scale(total / n)}, [], []
        for group, difference in zip(pairs.groups, _differences(pairs), strict=True):
            values.append(_largest(difference[None], scales[group]).item())
            if model.ruler is None:
                one = _map_of(difference[None], scales[group], model.value_range)
                maps.append(model.layout.to_map(one).numpy())
        if maps:
            learned["map_quantiles"] = quantiles_of_maps(np.concatenate(maps))
        return learned, np.array(values)

    def shapes(self, model):
        shapes = {"scale": model.seen_chw}
        if model.ruler is None:
            shapes["map_quantiles"] = PIXEL_SHARES.shape
        return shapes


def residual_scale(squares):
    """How much normal images differ from generated images, place by place.

    The mean square is smoothed over 5x5 pixels and drawn a little towards its mean over
    all places. Otherwise a place where no normal image differs would have a scale near
    0, and any difference there would count as huge.

    Parameters
    ----------
    squares : tensor of shape (channels, height, width), float64
        Mean square of the difference over normal images.

    Returns
    -------
    scale : tensor of shape (channels, height, width), float64
        Above 0.
    """
    squares = uniform_filter(squares.numpy(), (1, 5, 5), mode="nearest")
    return torch.from_numpy(np.sqrt(squares + _SHRINKAGE * squares.mean() + _TINY))


def residual_map(x, z, G_z, networks, scale, value_range, layout):
    """Map of the difference; an answer for `search_in_blocks`.

    Parameters
    ----------
    x, z, G_z : tensors of shape (n, ...)
        Images, codes and generated images.
    networks : FrozenNetworks
    scale : tensor of shape (channels, height, width)
        Of `LargestResidual`.
    value_range : ValueRange
    layout : Layout
        Of the images.

    Returns
    -------
    answer : dict
        ``residual_maps`` (n, 1, height, width), or (n, channels, 1, 1) for rows: the
        difference relative to what is usual in each place, in the user's units as if
        all places were average ones.
    """
    difference = (networks.seen(x) - G_z).cpu().double()
    maps = resized(_map_of(difference, scale, value_range), x.shape[2:])
    return {"residual_maps": layout.to_map(maps).to(layout.dtype)}


def _map_of(difference, scale, value_range):
    """The map in each channel (n, channels, height, width), in the user's units."""
    average = scale.square().mean((1, 2), keepdim=True).sqrt()
    units = average * value_range.half_width
    return smooth(difference / scale).abs() * units


def _differences(pairs):
    """The differences (channels, height, width) of the images, float64, one by one."""
    for x, G_z in pairs.blocks():
        yield from (x - G_z).double()


def _largest(difference, scale):
    return smooth(difference / scale).abs().amax((1, 2, 3))
