# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What generated images tell before any search: where to start, and how to step."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from threadpoolctl import threadpool_limits
from torch import nn

from .._devices import intraop_threads
from .._inference import CPU_BATCHES, AlignedLinear, padding

#: Numbers in the images of all candidates together, at most: 64 MB.
_KEPT_VALUES = 2**24


class Exploration(NamedTuple):
    """What is known of a latent space before any search."""

    candidates: torch.Tensor  # (n, latent_dim), codes to start from
    similarity: nn.Module | None  # images (m, ...) -> (m, n), the higher, the nearer
    coordinates: nn.Module  # steps u of the search -> steps in z


@torch.enable_grad()
def explore(networks, z, n_starts):
    """Learn from generated images where a search should start and how it should step.

    The images of all candidates are kept, so that a search can start from the nearest
    one. The search steps in coordinates u, dz = C u, in which the generator changes
    about equally fast in all directions: with M = E[J^T J] of its Jacobian J over the
    candidates, C = M^(-1/4), scaled to leave the mean length of a step as it is. M is
    estimated by E[g g^T] of gradients g = J^T s with random signs s (Hutchinson's
    estimator).

    Parameters
    ----------
    networks : FrozenNetworks
        With measured batch sizes.
    z : tensor of shape (n, latent_dim)
        Candidates: codes drawn from the prior. If there are no more than `n_starts`,
        there is no choice. The search is the paper's then: plain steps in z, from
        random starts.
    n_starts : int
        Searches for each image.

    Returns
    -------
    exploration : Exploration

    Raises
    ------
    FloatingPointError
        If the generator answers with NaN or infinity.
    """
    if len(z) <= n_starts:
        return Exploration(z, None, nn.Identity())
    rng = torch.Generator().manual_seed(0)
    images, gradients = [], []
    with networks.rounding_alike():
        for batch in z.split(networks.sizes[-1]):
            batch = batch[padding(len(batch), networks.sizes, z.device)]
            batch.requires_grad_()
            G_z = networks.generator(batch)
            signs = torch.randint(2, G_z.shape, generator=rng).to(G_z) * 2 - 1
            (gradient,) = torch.autograd.grad((G_z * signs).sum(), batch)
            images.append(G_z.detach().flatten(1))
            gradients.append(gradient)
    images, gradients = torch.cat(images)[: len(z)], torch.cat(gradients)[: len(z)]
    networks.check_finite(images.sum() + gradients.sum())
    # The nearest image has the largest x . G(z) - |G(z)|^2 / 2.
    nearest = AlignedLinear.of(images, -images.square().sum(1) / 2)
    similarity = nn.Sequential(nn.Flatten(), nearest)
    with threadpool_limits(1):  # workers of joblib have other numbers of threads
        coordinates = AlignedLinear.of(_coordinates(gradients.cpu()).to(z))
    return Exploration(z, similarity, coordinates)


def n_images_that_fit(n_images, n_values):
    """How many of the images can be kept at once, with ``n_values`` numbers each."""
    return max(1, min(n_images, _KEPT_VALUES // n_values))


def find_starts(networks, exploration, x, n_starts, with_encoder):
    """The codes that each image is searched from, image by image.

    Returns
    -------
    starts : tensor of shape (n * n_starts, latent_dim)
        For each image the nearest candidates; with an encoder, its code comes first and
        takes the place of the last candidate.
    """
    if with_encoder:
        encoded = networks.in_batches(networks.encoder, x)[:, None]
        if n_starts == 1:
            return encoded[:, 0]
        others = find_starts(networks, exploration, x, n_starts - 1, False)
        others = others.unflatten(0, (len(x), n_starts - 1))
        return torch.cat([encoded, others], 1).flatten(0, 1)
    candidates = exploration.candidates
    if exploration.similarity is None:
        return candidates[:n_starts].repeat(len(x), 1)

    def nearest(batch):
        return exploration.similarity(batch).topk(n_starts).indices

    # One thread and one size always round alike. Batches are needed here too, for
    # memory: each image gets a similarity for every candidate.
    with intraop_threads(1):
        found = replace(networks, sizes=CPU_BATCHES[-1:]).in_batches(nearest, x)
    return candidates[found.flatten()]


def _coordinates(gradients):
    """C = M^(-1/4) of M = E[g g^T], up to a rotation, and of mean square length 1."""
    M, _ = ledoit_wolf(gradients.double().numpy(), assume_centered=True)
    eigenvalues, directions = np.linalg.eigh(M)
    if eigenvalues[-1] <= 0:  # an image that is always the same
        return torch.eye(len(M))
    lengths = np.maximum(eigenvalues, 1e-6 * eigenvalues[-1]) ** -0.25
    lengths /= np.sqrt(np.mean(lengths**2))
    return torch.from_numpy(directions * lengths)
