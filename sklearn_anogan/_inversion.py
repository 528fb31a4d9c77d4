# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Latent search: from images back to the latent codes that come closest to them.

Pure functions of frozen networks, images, starts and settings. No image ever sees
another one: the loss is a sum over images, Adam works element by element, and batch
norm uses its running statistics. Rounding does not see the others either: every block
is padded to the same number of images, and linear layers are padded so that the rows of
their matrices are aligned alike, because the linear algebra underneath adds up numbers
in an order that depends on both.
"""

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import linear, pad

from ._losses import anogan_loss, discrimination_loss, residual_loss

#: Images in a block. Constant, because a matrix product over one row and one over many
#: rows may round differently; 32 is as fast per image on a CPU as any larger number.
BLOCK_SIZE = 32

#: Steps between two looks at which images have converged.
CHECK_EVERY = 25


#: Columns of a padded matrix come in multiples of this, 64 bytes of float32.
_ALIGNMENT = 16


class Inversion(NamedTuple):
    """What the search found for each of n images."""

    z: torch.Tensor  # (n, latent_dim), the best code met
    G_z: torch.Tensor  # (n, channels, height, width), the nearest generated image
    residual: torch.Tensor  # (n,) float64, equation (2)
    discrimination: torch.Tensor  # (n,) float64, equation (4)


def inference_form(network, device):
    """A frozen copy of a network on ``device``, for `invert`."""
    network = copy.deepcopy(network).to(device).eval().requires_grad_(False)
    for module in network.modules():
        if type(module) is nn.Linear:
            # Its weight, its hooks and its name stay what a network may rely on.
            module.__class__ = _AlignedLinear
    return network


@torch.enable_grad()
def invert(
    generator, discriminator, x, starts, *, n_steps, lr, tol, discrimination_weight
):
    """Search the latent codes whose generated images come closest to ``x``.

    From every start, Adam takes at most ``n_steps`` steps down the AnoGAN loss; the
    best code met anywhere on the way is kept for each image.

    Parameters
    ----------
    generator, discriminator : modules
        As `inference_form` makes them. See `_networks` for their contract.
    x : tensor of shape (n, channels, height, width)
        At most BLOCK_SIZE images, in [-1, 1] where they lie in the training range.
    starts : tensor of shape (n_starts, latent_dim)
        Every image is searched from each of these codes.
    n_steps : int
        Largest number of gradient steps from each start; 0 compares the starts.
    lr : float
        Learning rate of Adam.
    tol : float
        An image's search from one start ends when CHECK_EVERY steps have improved its
        loss by less than this share. 0 takes all steps.
    discrimination_weight : float in [0, 1]
        The paper's lambda.

    Returns
    -------
    inversion : Inversion
    """
    n, n_starts = len(x), len(starts)
    x = _pad(x, BLOCK_SIZE)
    f_x = discriminator.features(x).detach()
    # Image and start on one batch axis, the starts of one image side by side.
    x_all = x.repeat_interleave(n_starts, dim=0)
    f_x_all = f_x.repeat_interleave(n_starts, dim=0)
    z = starts.repeat(len(x), 1).requires_grad_()

    def loss_of(z):
        G_z = generator(z)
        return anogan_loss(
            residual_loss(x_all, G_z),
            discrimination_loss(f_x_all, discriminator.features(G_z)),
            discrimination_weight,
        )

    z_best, loss_best = _adam(loss_of, z, n_steps=n_steps, lr=lr, tol=tol)

    winner = loss_best.view(len(x), n_starts).argmin(1)
    z = z_best.view(len(x), n_starts, -1)[torch.arange(len(x), device=z.device), winner]
    with torch.no_grad():
        G_z = generator(z)
        f_G_z = discriminator.features(G_z)
        residual = residual_loss(x.double(), G_z.double())
        discrimination = discrimination_loss(f_x.double(), f_G_z.double())
    return Inversion(z[:n], G_z[:n], residual[:n], discrimination[:n])


def _adam(loss_of, z, *, n_steps, lr, tol):
    """Minimise ``loss_of(z)`` row by row; return the best rows met and their losses."""
    optimizer = torch.optim.Adam([z], lr=lr)
    z_best = z.detach().clone()
    loss_best = torch.full_like(z[:, 0].detach(), torch.inf)
    loss_checked = loss_best
    active = torch.ones_like(loss_best, dtype=torch.bool)
    for step in range(n_steps + 1):
        loss = loss_of(z)  # (n,)
        better = active & (loss.detach() < loss_best)
        loss_best = torch.where(better, loss.detach(), loss_best)
        z_best = torch.where(better[:, None], z.detach(), z_best)
        if step == n_steps:
            break
        if tol > 0 and step % CHECK_EVERY == 0:
            active = active & (loss_best < (1 - tol) * loss_checked)
            loss_checked = loss_best
            if not active.any():
                break
        (z.grad,) = torch.autograd.grad(loss.sum(), z)
        optimizer.step()
    return z_best, loss_best


def _pad(x, n):
    """Repeat the last image until there are n."""
    return torch.cat([x, x[-1:].expand(n - len(x), *x.shape[1:])])


class _AlignedLinear(nn.Linear):
    """A linear layer padded with zeros to sizes that are multiples of _ALIGNMENT.

    Matrix products over rows of other lengths round a row differently depending on
    where it starts in memory, and so on its place in the batch.
    """

    def forward(self, x):
        n_in, n_out = -self.in_features % _ALIGNMENT, -self.out_features % _ALIGNMENT
        weight = pad(self.weight, (0, n_in, 0, n_out))
        x = linear(pad(x, (0, n_in)), weight)[..., : self.out_features]
        return x if self.bias is None else x + self.bias
