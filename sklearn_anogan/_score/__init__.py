# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a score is made of: terms, each in a file of its own, and how they are joined.

A score knows models, images and generated images, but not how these were searched.
"""

from ._density import Density
from ._deviation import Deviation
from ._discrimination import Discrimination
from ._joins import RarestOfGroups, WeightedSum
from ._largest_deviation import LargestDeviation, deviation_map
from ._largest_residual import LargestResidual, residual_map
from ._recognition import Recognition
from ._residual import Residual
from ._squared_residual import SquaredResidual
from ._term import Term, measure_terms

__all__ = [
    "ALWAYS_DEFINED",
    "JOINS",
    "TERMS",
    "Term",
    "defined_terms",
    "deviation_map",
    "measure_terms",
    "residual_map",
]

#: Name -> term, for all terms that there are.
TERMS = {
    term.name: term
    for term in (
        Residual(),
        SquaredResidual(),
        LargestResidual(),
        Discrimination(),
        Recognition(),
        Deviation(),
        LargestDeviation(),
        Density(),
    )
}

#: ``anomaly_score`` -> how its terms are joined.
JOINS = {"anogan": WeightedSum(), "calibrated": RarestOfGroups()}

#: Terms that every model has, for both scores and for maps.
ALWAYS_DEFINED = (
    "residual",
    "squared_residual",
    "largest_residual",
    "discrimination",
    "density",
)


def defined_terms(model):
    """The terms that can be measured with a model."""
    return [term for term in TERMS.values() if term.is_defined(model)]
