# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a term of the score is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial

import torch

from .._inference import FrozenNetworks


@dataclass(frozen=True, eq=False)
class Batch:
    """Images, and what terms compare them with.

    Attributes
    ----------
    x : tensor of shape (n, channels, height, width), float32
        The images. n is the size of a batch that rounds alike.
    G_z : tensor of shape (n, channels, height, width), float32
        The generated images that come closest, of the size that the networks see.
    networks : FrozenNetworks
    rows : tensor of shape (n,)
        Places of the images in their block.
    of_block : callable
        ``of_block()`` are the ruler's distances of all images of the block.
    """

    x: torch.Tensor
    G_z: torch.Tensor
    networks: FrozenNetworks
    rows: torch.Tensor
    of_block: Callable

    @cached_property
    def seen(self):
        """The images as the networks see them."""
        return self.networks.seen(self.x)

    @property
    def distances(self):
        """The ruler's distances: coarse (n, rows, columns), fine (n, height, width)."""
        return tuple(each[self.rows] for each in self.of_block())


class Term:
    """A number for each image: the higher, the more abnormal.

    To add a term, write a subclass in a file of its own and enter an instance in
    `TERMS`. Terms have no state. What a term learns from held-out images is kept in the
    detector's `Calibration`.

    Attributes
    ----------
    name : str
        Key in `TERMS` and in the answer of `score_terms`.
    group : str or None
        What the term looks at. In the calibrated score, the terms of a group count by
        the rarest one, and the groups add up. None keeps the term out of that score.
    sees_details : bool
        Whether the term looks at the image itself, and not at what the networks see.
    """

    name: str | None = None
    group: str | None = None
    sees_details = False

    def is_defined(self, model):
        """Whether the term can be measured with this `Model`."""
        return True

    def group_in(self, model):
        """The group of the term in the calibrated score of this model, or None."""
        return self.group

    def weight_in(self, model):
        """Weight in the calibrated score: of a shrunk image, networks see less."""
        return 1.0 if self.sees_details else model.seen_share

    def measure(self, batch, learned):
        """Measure the term.

        Parameters
        ----------
        batch : Batch
        learned : dict
            What `fit` has learned.

        Returns
        -------
        values : tensor of shape (n,), float64
            At least 0.
        """
        raise NotImplementedError

    def fit(self, pairs, model):
        """Learn from held-out images, and measure each as if it were new.

        A term that learns must measure each image with what it learns from the images
        of other groups. Otherwise the image would look more usual than a new one.

        Parameters
        ----------
        pairs : Pairs
            Held-out images with the generated images that come closest, and with their
            ``groups``.
        model : Model

        Returns
        -------
        learned : dict of float64 tensors
        values : ndarray of shape (n,), float64
        """
        answer = partial(measure_terms, terms=[self], learned={})
        return {}, pairs.map(answer)["terms"].numpy().ravel()

    def shapes(self, model):
        """Name -> shape of what the term learns."""
        return {}


def measure_terms(x, z, G_z, networks, terms, learned):
    """Measure terms of any number of images; an answer for `search_in_blocks`.

    Every term gets batches that round alike. Else even the mean over one large image
    would be shared among threads, and rounded by their number.

    Parameters
    ----------
    x, z, G_z : tensors of shape (n, ...)
        Images, codes and generated images.
    networks : FrozenNetworks
    terms : list of Term
    learned : dict
        Name of a term -> what the term has learned.

    Returns
    -------
    answer : dict
        ``terms``, a tensor (n, n_terms), float64.
    """
    # The ruler measures images one by one: there is no need to fill up batches.
    distances = cache(partial(networks.distances, x))

    def measure(rows):
        batch = Batch(x[rows], G_z[rows], networks, rows, distances)
        values = [term.measure(batch, learned.get(term.name, {})) for term in terms]
        return torch.stack(values, 1)

    rows = torch.arange(len(x), device=x.device)
    values = networks.in_batches(measure, rows)
    networks.check_finite(values)
    return {"terms": values}
