# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What one search of images can find, by name: codes, images, maps and terms.

A finder is an answer for `search_in_blocks`: it gets images, codes, generated images
and networks, and returns a dictionary with a tensor.
"""

from functools import partial

import torch
from sklearn.utils import Bunch

from ._images import resized
from ._score import deviation_map, measure_terms, residual_map


def make_finders(model, learned, layout, terms):
    """Name -> finder.

    Parameters
    ----------
    model : Model
    learned : dict
        Name of a term -> what the term has learned of held-out images.
    layout : Layout
        Of the images.
    terms : list of Term
    """
    value_range = model.value_range
    residual_maps = partial(
        residual_map,
        scale=learned["largest_residual"]["scale"],
        value_range=value_range,
        layout=layout,
    )
    maps = partial(_renamed, residual_maps)
    if model.ruler is not None:
        of_places = learned["largest_deviation"]
        maps = partial(deviation_map, learned=of_places, dtype=layout.dtype)
    return {
        "codes": _codes,
        "reconstructions": partial(_reconstructions, value_range, layout.dtype),
        "maps": maps,
        "residual_maps": residual_maps,
        "terms": partial(measure_terms, terms=terms, learned=learned),
    }


def need_search(names, model):
    """Whether what is named needs a latent search; the ruler's maps need none."""
    return model.ruler is None or {*names} != {"maps"}


def find_all(finders, x, z, G_z, networks):
    """What all of the finders find."""
    found = {}
    for find in finders:
        found |= find(x, z, G_z, networks)
    return found


def in_layout(found, layout, terms):
    """What was found, in the layout of the images; of terms, a Bunch by name."""

    def by_name(values):
        columns = values.numpy().T
        return Bunch(**{term.name: c for term, c in zip(terms, columns, strict=True)})

    restore = {
        "codes": torch.Tensor.numpy,
        "reconstructions": layout.restore,
        "maps": layout.of_maps().restore,
        "residual_maps": layout.of_maps().restore,
        "terms": by_name,
    }
    return {name: restore[name](values) for name, values in found.items()}


def _codes(x, z, G_z, networks):
    return {"codes": z}


def _reconstructions(value_range, dtype, x, z, G_z, networks):
    G_z = resized(G_z, x.shape[2:])
    return {"reconstructions": value_range.to_user(G_z).to(dtype)}


def _renamed(residual_maps, x, z, G_z, networks):
    return {"maps": residual_maps(x, z, G_z, networks)["residual_maps"]}
