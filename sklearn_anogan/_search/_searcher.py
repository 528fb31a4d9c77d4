# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The latent search: from images to the codes whose generated images come closest."""

from dataclasses import dataclass, replace
from math import prod

import torch

from .._devices import intraop_threads
from .._inference import FrozenNetworks
from ._descent import descend
from ._exploration import Exploration, explore, find_starts, n_images_that_fit


@dataclass(frozen=True)
class SearchSettings:
    """How images are searched, whatever the model.

    Attributes
    ----------
    n_starts : int
        Starts of the search for each image.
    n_candidates : int
        Generated images to choose the starts from.
    n_steps : int
        Largest number of gradient steps from each start; 0 compares the starts.
    lr : float
        Learning rate of Adam.
    tol : float
        A search ends when CHECK_EVERY steps have improved its loss by less than this
        share. 0 takes all steps.
    discrimination_weight : float in [0, 1]
        The paper's lambda.
    with_encoder : bool
        Whether the encoder's code is the first start.
    """

    n_starts: int
    n_candidates: int
    n_steps: int
    lr: float
    tol: float
    discrimination_weight: float
    with_encoder: bool


@dataclass(frozen=True, eq=False)
class Searcher:
    """All that is needed on one device to search images."""

    networks: FrozenNetworks
    exploration: Exploration | None
    settings: SearchSettings | None  # None, without an exploration, cannot search

    def limited_to(self, largest):
        """The same searcher with batches of ``largest`` images at most."""
        return replace(self, networks=self.networks.limited_to(largest))

    @torch.enable_grad()
    def search(self, x):
        """Search the latent codes whose generated images come closest to ``x``.

        To be called within ``networks.rounding_alike()``.

        Parameters
        ----------
        x : tensor of shape (n, channels, height, width)
            Images, in [-1, 1] where they lie in the training range, channels last in
            memory.

        Returns
        -------
        z : tensor of shape (n, latent_dim)
            The best code met for each image.
        G_z : tensor of shape (n, channels, height, width)
            What the generator makes of it.

        Raises
        ------
        ValueError
            If generated images have another shape than ``x``.
        FloatingPointError
            If a network answers with NaN or infinity.
        """
        networks, settings = self.networks, self.settings
        n_starts, coordinates = settings.n_starts, self.exploration.coordinates
        with torch.no_grad():
            self._check_shape(x)
            starts = find_starts(
                networks, self.exploration, x, n_starts, settings.with_encoder
            )
        has_choice = settings.n_steps > 0 or n_starts > 1
        if has_choice:
            u, loss = descend(networks, coordinates, x, starts, settings)
        else:
            u, loss = torch.zeros_like(starts), starts.new_zeros(len(starts))
        best = loss.view(-1, n_starts).argmin(1)
        best += n_starts * torch.arange(len(x), device=x.device)
        with torch.no_grad():
            z = starts[best] + networks.in_batches(coordinates, u[best])
            G_z = networks.in_batches(networks.generator, z)
        networks.check_finite(G_z.sum())
        return z, G_z

    def _check_shape(self, x):
        """Refuse images of another shape than generated ones, which might broadcast."""
        G = self.networks.generator
        generated = G(self.exploration.candidates[:1])
        if generated.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"{type(G).__name__} generates images of (channels, height, "
                f"width) = {tuple(generated.shape[1:])}, X has {tuple(x.shape[1:])}."
            )


class Searchers:
    """Makes searchers for a model, and keeps what took time to make.

    The object keeps the networks in their form for a device, the batch sizes measured
    for a number of threads, and the last exploration on a device. Copies of a detector
    share these. A pickle holds the model only.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model):
        self.model = model
        self._networks, self._measured, self._explored = {}, {}, {}

    def __reduce__(self):
        return Searchers, (self.model,)

    def make(self, device, settings, n_threads=None):
        """A searcher for a device.

        Parameters
        ----------
        device : torch.device
        settings : SearchSettings or None
            None for a searcher that will not search.
        n_threads : int or None
            Threads of the CPU that the searcher is for; None for as many as torch uses.
        """
        # Exploration happens here, with all threads, whatever the workers have.
        exploration = settings and self._explore(device, settings)
        with intraop_threads(n_threads):
            return Searcher(self._measured_on(device), exploration, settings)

    def _measured_on(self, device):
        """The networks on a device, measured for as many threads as torch uses now."""
        if device not in self._networks:
            self._networks[device] = FrozenNetworks.of(self.model, device)
        key = device, torch.get_num_threads()
        if key not in self._measured:
            self._measured[key] = self._networks[device].measured()
        return self._measured[key]

    def _explore(self, device, settings):
        n_values = prod(self.model.seen_chw)
        n_candidates = n_images_that_fit(settings.n_candidates, n_values)
        n_candidates = max(n_candidates, settings.n_starts)
        wanted = n_candidates, n_candidates == settings.n_starts
        known, exploration = self._explored.get(device, (None, None))
        if known != wanted:
            # The same candidates for every image: with candidates of its own, a score
            # would depend on the image's place in X.
            z = self.model.draw(n_candidates, self.model.search_seed).to(device)
            exploration = explore(self._measured_on(device), z, settings.n_starts)
            self._explored[device] = wanted, exploration
        return exploration
