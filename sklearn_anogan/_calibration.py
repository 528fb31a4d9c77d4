# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a detector knows of held-out normal images; thresholds and p-values use it."""

from dataclasses import dataclass, field

import torch

from ._plain import take


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a fit has measured on normal images that were held out of the training.

    Attributes
    ----------
    held_out : dict
        Name -> ndarray of shape (m,), float64: a value of each held-out image, as if
        the image were new. A name is the name of a term, or "score".
    is_held_out : bool
        Whether the training has not seen these images.
    parameters : dict
        Parameters that the values depend on, with their values in `fit`.
    learned : dict
        Name of a term -> name -> float64 tensor: what the term has learned of the
        held-out images.
    """

    held_out: dict
    is_held_out: bool
    parameters: dict
    learned: dict = field(default_factory=dict)

    def to_plain(self):
        """The record for JSON, without `parameters`, and its tensors by name."""
        tensors = {
            f"held_out.{name}": torch.from_numpy(values)
            for name, values in self.held_out.items()
        }
        for term, learned in self.learned.items():
            for name, tensor in learned.items():
                tensors[f"learned.{term}.{name}"] = tensor
        plain = {"is_held_out": bool(self.is_held_out), "names": [*self.held_out]}
        return plain, tensors

    @classmethod
    def from_plain(cls, plain, tensors, parameters, shapes):
        """The record from its plain form; takes its tensors out of ``tensors``.

        Parameters
        ----------
        plain : dict
        tensors : dict
        parameters : dict
        shapes : dict
            Name in `held_out` -> name -> shape of what the term has learned.

        Raises
        ------
        Exception
            Of any kind, if the plain form does not fit together.
        """
        held_out, length = {}, None
        for name in shapes:
            values = take(tensors, f"held_out.{name}", (length,))
            held_out[name], length = values.numpy(), len(values)
        learned = {
            term: {
                name: take(tensors, f"learned.{term}.{name}", shape)
                for name, shape in of_term.items()
            }
            for term, of_term in shapes.items()
        }
        return cls(held_out, bool(plain["is_held_out"]), parameters, learned)
