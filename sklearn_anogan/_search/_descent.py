# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Gradient descent from starts in the latent space to the codes that come closest.

Pure functions of frozen networks, images, starts and settings. No image ever sees
another one: the loss is a sum over images, Adam works element by element, batch norm
uses its running statistics, and the batches round alike (see `_inference`).
"""

from functools import partial
from typing import NamedTuple

import torch
from torch.nn.functional import pad

from .._devices import CUDA_CAPTURE
from .._inference import padding
from .._losses import anogan_loss, discrimination_loss, residual_loss

#: Steps between two looks at which searches have converged.
CHECK_EVERY = 5

#: Adam's decay rates, shorter than its usual ones for a search of few steps, and the
#: term that keeps its quotient finite.
_BETA_1, _BETA_2, _EPSILON = 0.8, 0.9, 1e-8

#: Fewest steps that are worth recording as a CUDA graph, which costs about three.
_FEWEST_REPLAYED = 8


class Searches(NamedTuple):
    """The state of searches under way, one search in each row."""

    number: torch.Tensor  # (m,), of image and start: image * n_starts + start
    z: torch.Tensor  # (m, latent_dim), the start
    u: torch.Tensor  # (m, latent_dim), the way gone since, in the coordinates
    mean: torch.Tensor  # (m, latent_dim), Adam's mean of the gradients
    square: torch.Tensor  # (m, latent_dim), Adam's mean of their squares
    n_seen: torch.Tensor  # (m,), codes tried
    u_best: torch.Tensor  # (m, latent_dim)
    loss_best: torch.Tensor  # (m,)
    loss_checked: torch.Tensor  # (m,), loss_best at the last look

    @classmethod
    def begin(cls, starts, numbers):
        """Searches that have tried no code yet."""
        z = starts[numbers]
        zero = torch.zeros_like(z)
        worst = torch.full_like(z[:, 0], torch.inf)
        n_seen = torch.zeros_like(numbers)
        return cls(numbers, z, zero, zero, zero, n_seen, zero, worst, worst)

    def select(self, rows):
        return Searches(*(column[rows] for column in self))

    def join(self, other):
        return Searches(*map(torch.cat, zip(self, other, strict=True)))


def descend(networks, coordinates, x, starts, settings):
    """Search from every start; a search that has ended makes room for the next one.

    From every start, Adam takes at most ``settings.n_steps`` steps down the AnoGAN
    loss. The best code met anywhere on the way is kept.

    Parameters
    ----------
    networks : FrozenNetworks
        With measured batch sizes.
    coordinates : module
        Steps u of the search -> steps in z.
    x : tensor of shape (n, channels, height, width)
        Images, in [-1, 1] where they lie in the training range.
    starts : tensor of shape (n * n_starts, latent_dim)
        Image by image.
    settings : SearchSettings

    Returns
    -------
    u : tensor of shape (n * n_starts, latent_dim)
        The way from the start to the best code, in the coordinates.
    loss : tensor of shape (n * n_starts,)
        The loss there.

    Raises
    ------
    FloatingPointError
        If a network answers with NaN or infinity.
    """
    n_searches, n_steps = len(starts), settings.n_steps
    rates = learning_rates(n_steps, settings.lr).to(x)
    f_x = networks.in_batches(networks.discriminator.features, x)

    def loss_of(z, u, x, f_x):
        G_z = networks.generator(z + coordinates(u))
        return anogan_loss(
            residual_loss(x, G_z),
            discrimination_loss(f_x, networks.discriminator.features(G_z)),
            settings.discrimination_weight,
        )

    repeat = _replay if x.is_cuda and _is_graphable(networks) else _repeat
    u_found = torch.zeros_like(starts)
    loss_found = starts.new_zeros(n_searches)
    n_begun = 0
    searches = Searches.begin(starts, torch.arange(0, device=x.device))
    while n_begun < n_searches or len(searches.u):
        n_new = min(networks.sizes[-1] - len(searches.u), n_searches - n_begun)
        numbers = torch.arange(n_begun, n_begun + n_new, device=x.device)
        searches = searches.join(Searches.begin(starts, numbers))
        n_begun += n_new

        n_active = len(searches.u)
        searches = searches.select(padding(n_active, networks.sizes, x.device))
        image = searches.number // settings.n_starts
        loss = partial(loss_of, searches.z, x=x[image], f_x=f_x[image])
        n_between = CHECK_EVERY if settings.tol > 0 else n_steps + 1
        searches = repeat(partial(step, loss, rates=rates), searches, n_between)
        searches = searches.select(slice(n_active))

        has_ended = searches.n_seen > n_steps
        if settings.tol > 0:
            has_ended |= (
                searches.loss_best >= (1 - settings.tol) * searches.loss_checked
            )
        ended = searches.select(has_ended)
        u_found[ended.number] = ended.u_best
        loss_found[ended.number] = ended.loss_best
        searches = searches._replace(loss_checked=searches.loss_best).select(~has_ended)
    networks.check_finite(loss_found)
    return u_found, loss_found


def _is_graphable(networks):
    """Whether the kernels of a step can be recorded as a CUDA graph.

    A network class says so itself. A subclass does not inherit the answer, since the
    subclass may do what cannot be recorded.
    """
    return all(
        vars(type(network)).get("is_graphable", False)
        for network in (networks.generator, networks.discriminator)
    )


def _repeat(step, searches, n_steps):
    for _ in range(n_steps):
        searches = step(searches)
    return searches


def _replay(step, searches, n_steps):
    """Take steps on a GPU by replaying a graph of the kernels of one step.

    The kernels of small networks end sooner than Python can launch the next kernels.
    """
    if n_steps < _FEWEST_REPLAYED:
        return _repeat(step, searches, n_steps)
    device = searches.u.device
    with torch.cuda.device(device):
        searches = Searches(*(column.clone() for column in searches))
        ours, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(ours)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(side):
            # Libraries set themselves up in the first steps, which cannot be recorded.
            _repeat(step, searches, 2)
            with (
                CUDA_CAPTURE,
                torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"),
            ):
                for column, moved in zip(searches, step(searches), strict=True):
                    column.copy_(moved)
        ours.wait_stream(side)
        for _ in range(n_steps):
            graph.replay()
        ours.synchronize()  # the graph goes now
    return searches


def step(loss_of, searches, rates):
    """Try the code of every search and take one step of Adam, or none after the last.

    The host reads no value and makes none, so that a GPU is never waited for.
    """
    u = searches.u.detach().requires_grad_()
    loss = loss_of(u)
    (gradient,) = torch.autograd.grad(loss.sum(), u)
    with torch.no_grad():
        better = loss < searches.loss_best
        mean = _BETA_1 * searches.mean + (1 - _BETA_1) * gradient
        square = _BETA_2 * searches.square + (1 - _BETA_2) * (gradient * gradient)
        rate, correction = rates[searches.n_seen.clamp(max=len(rates) - 1)].unbind(1)
        direction = mean / (square.sqrt() * correction[:, None] + _EPSILON)
        return searches._replace(
            u=searches.u - rate[:, None] * direction,
            mean=mean,
            square=square,
            n_seen=searches.n_seen + 1,
            u_best=torch.where(better[:, None], searches.u, searches.u_best),
            loss_best=torch.where(better, loss, searches.loss_best).detach(),
        )


def learning_rates(n_steps, lr):
    """Adam's factors of step t, (n_steps + 1, 2), with its bias corrections.

    The last row is for searches that have taken all steps and must not move any more.
    """
    t = torch.arange(1, n_steps + 1, dtype=torch.float64)
    rate = lr / (1 - _BETA_1**t)
    correction = 1 / (1 - _BETA_2**t).sqrt()
    return pad(torch.stack([rate, correction], 1), (0, 0, 0, 1))
