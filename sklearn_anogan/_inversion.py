# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Latent search: from images back to the latent codes that come closest to them.

Pure functions of frozen networks, images, starts and settings. No image ever sees
another one: the loss is a sum over images, Adam works element by element, and batch
norm uses its running statistics. Rounding does not see the others either: the networks
always get one of a few fixed numbers of images, and linear layers are padded so that
the rows of their matrices are aligned alike, because the linear algebra underneath adds
up numbers in an order that depends on both.
"""

import copy
from functools import partial
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import linear, pad
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ._losses import anogan_loss, discrimination_loss, residual_loss

#: Numbers of images that the networks are ever given. The largest is how many searches
#: run side by side; the others are for the last ones of a block.
BATCH_SIZES = (32, 64)

#: Most steps between two looks at which searches have ended.
CHECK_EVERY = 25

#: Columns of a padded matrix come in multiples of this, 64 bytes of float32.
_ALIGNMENT = 16

#: Adam's decay rates and the term that keeps its quotient finite.
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class Inversion(NamedTuple):
    """What the search found for each of n images."""

    z: torch.Tensor  # (n, latent_dim), the best code met
    G_z: torch.Tensor  # (n, channels, height, width), the nearest generated image
    residual: torch.Tensor  # (n,) float64, equation (2)
    discrimination: torch.Tensor  # (n,) float64, equation (4)


class _Searches(NamedTuple):
    """The state of searches under way, one of them in each row."""

    number: torch.Tensor  # (m,), of image and start: image * n_starts + start
    z: torch.Tensor  # (m, latent_dim)
    mean: torch.Tensor  # (m, latent_dim), Adam's mean of the gradients
    square: torch.Tensor  # (m, latent_dim), Adam's mean of their squares
    n_taken: torch.Tensor  # (m,), steps
    z_best: torch.Tensor  # (m, latent_dim)
    loss_best: torch.Tensor  # (m,)
    loss_checked: torch.Tensor  # (m,), loss_best at the last look

    def select(self, rows):
        return _Searches(*(column[rows] for column in self))

    def join(self, other):
        return _Searches(*map(torch.cat, zip(self, other, strict=True)))


def inference_form(network, device):
    """A frozen copy of a network on ``device``, as `invert` wants it.

    Batch norms are folded into the layers before them, and the linear layers' rows are
    aligned. Convolutions keep their weights channels last, which is faster.
    """
    network = copy.deepcopy(network).to(device).eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold_batch_norms(module)
    for module in network.modules():
        if type(module) is nn.Linear:
            # Its weight, its hooks and its name stay what a network may rely on.
            module.__class__ = _AlignedLinear
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


@torch.enable_grad()
def invert(
    generator, discriminator, x, starts, *, n_steps, lr, tol, discrimination_weight
):
    """Search the latent codes whose generated images come closest to ``x``.

    From every start, Adam takes at most ``n_steps`` steps down the AnoGAN loss; the
    best code met anywhere on the way is kept for each image. A search that has ended
    makes room for the next one at once.

    Parameters
    ----------
    generator, discriminator : modules
        As `inference_form` makes them. See `_networks` for their contract.
    x : tensor of shape (n, channels, height, width)
        Images, in [-1, 1] where they lie in the training range.
    starts : tensor of shape (n_starts, latent_dim)
        Every image is searched from each of these codes.
    n_steps : int
        Largest number of gradient steps from each start; 0 compares the starts.
    lr : float
        Learning rate of Adam.
    tol : float
        A search ends when up to CHECK_EVERY steps have improved its loss by less than
        this share. 0 takes all steps.
    discrimination_weight : float in [0, 1]
        The paper's lambda.

    Returns
    -------
    inversion : Inversion

    Raises
    ------
    FloatingPointError
        If a network answers with NaN or infinity.
    """
    n_starts, n_searches = len(starts), len(x) * len(starts)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        f_x = _in_batches(discriminator.features, x)

    def loss_of(z, x, f_x):
        G_z = generator(z)
        return anogan_loss(
            residual_loss(x, G_z),
            discrimination_loss(f_x, discriminator.features(G_z)),
            discrimination_weight,
        )

    # The same number of steps, CHECK_EVERY at most, between any two looks.
    n_between = ceil(n_steps / max(1, ceil(n_steps / CHECK_EVERY)))
    rates = _learning_rates(n_steps, lr).to(x)
    z_found = starts.new_empty(n_searches, starts.shape[1])
    loss_found = starts.new_empty(n_searches)
    n_begun = 0
    searches = _begin(starts, torch.arange(0, device=x.device))
    while n_begun < n_searches or len(searches.z):
        n_new = min(BATCH_SIZES[-1] - len(searches.z), n_searches - n_begun)
        numbers = torch.arange(n_begun, n_begun + n_new, device=x.device)
        searches = searches.join(_begin(starts, numbers))
        n_begun += n_new

        n_active = len(searches.z)
        searches = searches.select(_padding(n_active, x.device))
        image = searches.number // n_starts
        loss = partial(loss_of, x=x[image], f_x=f_x[image])
        for _ in range(n_between):
            searches = _step(loss, searches, rates)
        with torch.no_grad():
            searches = _keep_better(searches, loss(searches.z))
        searches = searches.select(slice(n_active))

        has_ended = searches.n_taken >= n_steps
        if tol > 0:
            has_ended |= searches.loss_best >= (1 - tol) * searches.loss_checked
        ended = searches.select(has_ended)
        z_found[ended.number] = ended.z_best
        loss_found[ended.number] = ended.loss_best
        searches = searches._replace(loss_checked=searches.loss_best).select(~has_ended)

    winner = loss_found.view(-1, n_starts).argmin(1)
    z = z_found.view(-1, n_starts, z_found.shape[1])
    z = z[torch.arange(len(z), device=z.device), winner]
    with torch.no_grad():
        G_z = _in_batches(generator, z)
        f_G_z = _in_batches(discriminator.features, G_z)
        residual = residual_loss(x.double(), G_z.double())
        discrimination = discrimination_loss(f_x.double(), f_G_z.double())
    if not (residual + discrimination).isfinite().all():
        raise FloatingPointError(
            f"{type(generator).__name__} or {type(discriminator).__name__} answered "
            "with NaN or infinity. Train networks whose answers are finite for every "
            "latent code and image."
        )
    return Inversion(z, G_z, residual, discrimination)


def _begin(starts, numbers):
    """Searches that have taken no step yet."""
    z = starts[numbers % len(starts)]
    worst = torch.full_like(z[:, 0], torch.inf)
    n_taken = torch.zeros_like(numbers)
    return _Searches(
        numbers, z, torch.zeros_like(z), torch.zeros_like(z), n_taken, z, worst, worst
    )


def _step(loss_of, searches, rates):
    """One step of Adam in every search; none in those that have taken them all."""
    z = searches.z.detach().requires_grad_()
    loss = loss_of(z)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    with torch.no_grad():
        searches = _keep_better(searches, loss)
        mean = _BETA_1 * searches.mean + (1 - _BETA_1) * gradient
        square = _BETA_2 * searches.square + (1 - _BETA_2) * (gradient * gradient)
        rate, correction = rates[searches.n_taken].unbind(1)
        step = mean / (square.sqrt() * correction[:, None] + _EPSILON)
        return searches._replace(
            z=searches.z - rate[:, None] * step,
            mean=mean,
            square=square,
            n_taken=(searches.n_taken + 1).clamp(max=len(rates) - 1),
        )


def _learning_rates(n_steps, lr):
    """Adam's factors after t steps, (n_steps + 1, 2), with its bias corrections.

    The last row is for searches that have taken all steps: it moves them no more.
    """
    t = torch.arange(1, n_steps + 1, dtype=torch.float64)
    rate = lr / (1 - _BETA_1**t)
    correction = 1 / (1 - _BETA_2**t).sqrt()
    return pad(torch.stack([rate, correction], 1), (0, 0, 0, 1))


def _keep_better(searches, loss):
    better = loss < searches.loss_best
    return searches._replace(
        z_best=torch.where(better[:, None], searches.z, searches.z_best),
        loss_best=torch.where(better, loss.detach(), searches.loss_best),
    )


def _padding(n, device):
    """Rows 0 to n - 1, the last repeated to make one of BATCH_SIZES."""
    size = next(size for size in BATCH_SIZES if size >= n)
    return torch.arange(size, device=device).clamp(max=n - 1)


def _in_batches(network, inputs):
    """Answers of a network for any number of inputs, in batches of fixed sizes."""
    return torch.cat(
        [
            network(batch[_padding(len(batch), batch.device)])[: len(batch)]
            for batch in inputs.split(BATCH_SIZES[-1])
        ]
    )


def _fold_batch_norms(layers):
    """Fold the batch norms of a sequence into the layers before them."""
    for i, (layer, norm) in enumerate(pairwise(layers)):
        if getattr(norm, "running_mean", None) is None:
            continue
        if (
            layer._forward_hooks
            or norm._forward_hooks
            or getattr(layer, "groups", 1) > 1
        ):
            continue
        if type(norm) is nn.BatchNorm1d and type(layer) is nn.Linear:
            layers[i] = fuse_linear_bn_eval(layer, norm)
        elif type(norm) is nn.BatchNorm2d and type(layer) is nn.Conv2d:
            layers[i] = fuse_conv_bn_eval(layer, norm)
        elif type(norm) is nn.BatchNorm2d and type(layer) is nn.ConvTranspose2d:
            layers[i] = fuse_conv_bn_eval(layer, norm, transpose=True)
        else:
            continue
        layers[i + 1] = nn.Identity()


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
