# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Latent search: from images back to the latent codes that come closest to them.

Pure functions of frozen networks, images, candidates and settings. No image ever sees
another one: the loss is a sum over images, Adam works element by element, batch norm
uses its running statistics, and `_inference` sees to it that rounding does not depend
on the others either.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn.functional import pad

from ._devices import CUDA_CAPTURE, exact_convolutions, intraop_threads
from ._inference import (
    CPU_BATCHES,
    AlignedLinear,
    find_exact_batches,
    fitting_batch,
    in_batches,
    padding,
)
from ._losses import (
    anogan_loss,
    discrimination_loss,
    recognition_loss,
    residual_loss,
    square_loss,
)

#: Steps between two looks at which searches have converged.
CHECK_EVERY = 5

#: Adam's decay rates, shorter than its usual ones for a search of few steps, and the
#: term that keeps its quotient finite.
_BETA_1, _BETA_2, _EPSILON = 0.8, 0.9, 1e-8

#: Fewest steps that are worth recording as a CUDA graph, which costs about three.
_FEWEST_REPLAYED = 8

#: Numbers in the images that are kept at once, all candidates for one, at most: 64 MB.
_KEPT_VALUES = 2**24


class Candidates(NamedTuple):
    """What is known of the latent space before any search."""

    z: torch.Tensor  # (n, latent_dim)
    similarity: nn.Module | None  # images (m, ...) -> (m, n), the higher, the nearer
    coordinates: nn.Module  # steps u of the search -> steps in z
    encoder: nn.Module | None  # images -> (m, latent_dim), the first start
    recognizer: nn.Module | None  # features -> (m, n_transformations) logits
    exact_batches: dict  # (threads, with recognizer) -> `find_exact_batches`


class Inversion(NamedTuple):
    """What the search found for each of n images."""

    z: torch.Tensor  # (n, latent_dim), the best code met
    G_z: torch.Tensor  # (n, channels, height, width), the nearest generated image
    residual: torch.Tensor  # (n,) float64, equation (2)
    discrimination: torch.Tensor  # (n,) float64, equation (4)
    squares: torch.Tensor  # (n,) float64, mean square difference, smoothed
    recognition: torch.Tensor  # (n,) float64, mean recognition loss, 0 without a task


class _Searches(NamedTuple):
    """The state of searches under way, one of them in each row."""

    number: torch.Tensor  # (m,), of image and start: image * n_starts + start
    z: torch.Tensor  # (m, latent_dim), the start
    u: torch.Tensor  # (m, latent_dim), the way gone since, in the coordinates
    mean: torch.Tensor  # (m, latent_dim), Adam's mean of the gradients
    square: torch.Tensor  # (m, latent_dim), Adam's mean of their squares
    n_seen: torch.Tensor  # (m,), codes tried
    u_best: torch.Tensor  # (m, latent_dim)
    loss_best: torch.Tensor  # (m,)
    loss_checked: torch.Tensor  # (m,), loss_best at the last look

    def select(self, rows):
        return _Searches(*(column[rows] for column in self))

    def join(self, other):
        return _Searches(*map(torch.cat, zip(self, other, strict=True)))


@torch.enable_grad()
def explore(generator, discriminator, z, n_starts, encoder=None, recognizer=None):
    """Learn from generated images where a search should start and how it should step.

    The images of all candidates are kept, to start from the nearest. A step is taken in
    coordinates u, dz = C u, in which the generator changes about equally fast in all
    directions: with M = E[J^T J] of its Jacobian J over the candidates,
    C = M^(-1/4), scaled to leave the mean length of a step as it is. M is estimated by
    E[g g^T] of gradients g = J^T s with random signs s (Hutchinson's estimator).

    Parameters
    ----------
    generator, discriminator : modules
        As `inference_form` makes them. See `_networks` for their contract.
    z : tensor of shape (n, latent_dim)
        Codes drawn from the prior. With no more than `n_starts` of them, there is no
        choice: the search is the paper's, plain steps in z from random starts.
    n_starts : int
        Searches for each image.
    encoder : module or None
        As `inference_form` makes it; its code is the first start.
    recognizer : module or None
        As `inference_form` makes it.

    Returns
    -------
    candidates : Candidates

    Raises
    ------
    FloatingPointError
        If the generator answers with NaN or infinity.
    """
    largest = fitting_batch(generator, discriminator, z)
    n_threads, sizes = find_exact_batches(
        generator, discriminator, z, largest, encoder, recognizer
    )
    known_for = torch.get_num_threads(), recognizer is not None
    exact_batches = {known_for: (n_threads, sizes)}
    if len(z) <= n_starts:
        return Candidates(z, None, nn.Identity(), encoder, recognizer, exact_batches)
    rng = torch.Generator().manual_seed(0)
    images, gradients = [], []
    with intraop_threads(n_threads), exact_convolutions(z.device):
        for batch in z.split(sizes[-1]):
            batch = batch[padding(len(batch), sizes, z.device)].requires_grad_()
            G_z = generator(batch)
            signs = torch.randint(2, G_z.shape, generator=rng).to(G_z) * 2 - 1
            (gradient,) = torch.autograd.grad((G_z * signs).sum(), batch)
            images.append(G_z.detach().flatten(1))
            gradients.append(gradient)
    images, gradients = torch.cat(images)[: len(z)], torch.cat(gradients)[: len(z)]
    _check_finite(generator, discriminator, images.sum() + gradients.sum())
    # The nearest image has the largest x . G(z) - |G(z)|^2 / 2.
    nearest = AlignedLinear.of(images, -images.square().sum(1) / 2)
    similarity = nn.Sequential(nn.Flatten(), nearest)
    with threadpool_limits(1):  # workers of joblib have other numbers of threads
        coordinates = AlignedLinear.of(_coordinates(gradients.cpu()).to(z))
    return Candidates(z, similarity, coordinates, encoder, recognizer, exact_batches)


def n_images_that_fit(n_images, n_values):
    """How many images with so many numbers are kept at once, of so many."""
    return max(1, min(n_images, _KEPT_VALUES // n_values))


@torch.enable_grad()
def invert(
    generator,
    discriminator,
    candidates,
    x,
    *,
    n_starts,
    n_steps,
    lr,
    tol,
    discrimination_weight,
    largest_batch=None,
):
    """Search the latent codes whose generated images come closest to ``x``.

    From every start, Adam takes at most ``n_steps`` steps down the AnoGAN loss; the
    best code met anywhere on the way is kept for each image. A search that has ended
    makes room for the next one.

    Parameters
    ----------
    generator, discriminator : modules
        As `inference_form` makes them. See `_networks` for their contract.
    candidates : Candidates
        Of `explore`.
    x : tensor of shape (n, channels, height, width)
        Images, in [-1, 1] where they lie in the training range.
    n_starts : int
        Every image is searched from so many of the candidates, the nearest ones; the
        encoder's code, if there is one, takes the place of the last.
    n_steps : int
        Largest number of gradient steps from each start; 0 compares the starts.
    lr : float
        Learning rate of Adam.
    tol : float
        A search ends when CHECK_EVERY steps have improved its loss by less than this
        share. 0 takes all steps.
    discrimination_weight : float in [0, 1]
        The paper's lambda.
    largest_batch : int or None
        Most searches side by side, if memory is short. Below the smallest size that
        rounds like the others, the last bits may change.

    Returns
    -------
    inversion : Inversion

    Raises
    ------
    ValueError
        If generated images have another shape than ``x``.
    FloatingPointError
        If a network answers with NaN or infinity.
    """
    n_threads, sizes = measure_batches(
        generator, discriminator, candidates, largest_batch
    )
    with intraop_threads(n_threads), exact_convolutions(x.device):
        return _invert(
            generator,
            discriminator,
            candidates,
            x.contiguous(memory_format=torch.channels_last),
            sizes,
            n_starts,
            _learning_rates(n_steps, lr).to(x),
            tol,
            discrimination_weight,
        )


def measure_batches(generator, discriminator, candidates, largest=None):
    """Threads and batch sizes to search with; measured once for a number of threads."""
    known = candidates.exact_batches
    now = torch.get_num_threads(), candidates.recognizer is not None
    if now not in known:
        fitting = largest or fitting_batch(generator, discriminator, candidates.z)
        known[now] = find_exact_batches(
            generator,
            discriminator,
            candidates.z,
            fitting,
            candidates.encoder,
            candidates.recognizer,
        )
    n_threads, sizes = known[now]
    if largest is None or largest >= sizes[-1]:
        return n_threads, sizes
    return n_threads, tuple(s for s in sizes if s <= largest) or (largest,)


def _invert(
    generator, discriminator, candidates, x, sizes, n_starts, rates, tol, weight
):
    n_searches, n_steps = len(x) * n_starts, len(rates) - 1
    with torch.no_grad():
        generated = generator(candidates.z[:1])
        if generated.shape[1:] != x.shape[1:]:  # which might broadcast
            raise ValueError(
                f"{type(generator).__name__} generates images of (channels, height, "
                f"width) = {tuple(generated.shape[1:])}, X has {tuple(x.shape[1:])}."
            )
        f_x = in_batches(discriminator.features, x, sizes)
        starts = _find_starts(candidates, x, n_starts, sizes)

    def loss_of(z, u, x, f_x):
        G_z = generator(z + candidates.coordinates(u))
        return anogan_loss(
            residual_loss(x, G_z),
            discrimination_loss(f_x, discriminator.features(G_z)),
            weight,
        )

    # Not inherited: a subclass may do what cannot be recorded.
    is_graphable = x.is_cuda and all(
        vars(type(network)).get("is_graphable", False)
        for network in (generator, discriminator)
    )
    repeat = _replay if is_graphable else _repeat
    u_found = torch.zeros_like(starts)
    loss_found = starts.new_zeros(n_searches)
    has_choice = n_steps > 0 or n_starts > 1
    n_begun = 0 if has_choice else n_searches
    searches = _begin(starts, torch.arange(0, device=x.device))
    while n_begun < n_searches or len(searches.u):
        n_new = min(sizes[-1] - len(searches.u), n_searches - n_begun)
        numbers = torch.arange(n_begun, n_begun + n_new, device=x.device)
        searches = searches.join(_begin(starts, numbers))
        n_begun += n_new

        n_active = len(searches.u)
        searches = searches.select(padding(n_active, sizes, x.device))
        image = searches.number // n_starts
        loss = partial(loss_of, searches.z, x=x[image], f_x=f_x[image])
        step = partial(_step, loss, rates=rates)
        n_between = CHECK_EVERY if tol > 0 else n_steps + 1
        searches = repeat(step, searches, n_between)
        searches = searches.select(slice(n_active))

        has_ended = searches.n_seen > n_steps
        if tol > 0:
            has_ended |= searches.loss_best >= (1 - tol) * searches.loss_checked
        ended = searches.select(has_ended)
        u_found[ended.number] = ended.u_best
        loss_found[ended.number] = ended.loss_best
        searches = searches._replace(loss_checked=searches.loss_best).select(~has_ended)

    winner = loss_found.view(-1, n_starts).argmin(1)
    winner += n_starts * torch.arange(len(x), device=x.device)
    with torch.no_grad():
        z = starts[winner]
        z = z + in_batches(candidates.coordinates, u_found[winner], sizes)
        G_z = in_batches(generator, z, sizes)

        def terms(rows):
            f_G_z = discriminator.features(G_z[rows])
            difference = x[rows].double(), G_z[rows].double()
            discrimination = discrimination_loss(f_x[rows].double(), f_G_z.double())
            return torch.stack(
                [residual_loss(*difference), discrimination, square_loss(*difference)],
                1,
            )

        # In batches too: the mean of one large image alone is shared by threads.
        rows = torch.arange(len(x), device=x.device)
        found = in_batches(terms, rows, sizes)
        recognition = _recognition(discriminator, candidates.recognizer, x, sizes)
    _check_finite(generator, discriminator, found.sum(1) + recognition)
    return Inversion(z, G_z, *found.unbind(1), recognition)


def _recognition(discriminator, recognizer, x, sizes):
    """The mean recognition loss of each image over all transformations, float64."""
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    if recognizer is None:
        return total
    for t, transformation in enumerate(recognizer.transformations):
        logits = in_batches(
            lambda batch, transformation=transformation: recognizer(
                discriminator.features(transformation(batch))
            ),
            x,
            sizes,
        )
        total += recognition_loss(logits.double(), torch.full_like(total, t).long())
    return total / len(recognizer.transformations)


def _find_starts(candidates, x, n_starts, sizes):
    """The codes that the images are searched from, image by image."""
    if candidates.encoder is not None:
        encoded = in_batches(candidates.encoder, x, sizes)[:, None]
        if n_starts == 1:
            return encoded[:, 0]
        others = _find_starts(candidates._replace(encoder=None), x, n_starts - 1, sizes)
        return torch.cat(
            [encoded, others.unflatten(0, (len(x), n_starts - 1))], 1
        ).flatten(0, 1)
    if candidates.similarity is None:
        return candidates.z[:n_starts].repeat(len(x), 1)
    # One thread and one size always round alike; a row is as long as the candidates
    # are many, which also asks for batches.
    with intraop_threads(1):
        nearest = in_batches(
            lambda batch: candidates.similarity(batch).topk(n_starts).indices,
            x,
            CPU_BATCHES[-1:],
        )
    return candidates.z[nearest.flatten()]


def _begin(starts, numbers):
    """Searches that have tried no code yet."""
    z = starts[numbers]
    zero = torch.zeros_like(z)
    worst = torch.full_like(z[:, 0], torch.inf)
    n_seen = torch.zeros_like(numbers)
    return _Searches(numbers, z, zero, zero, zero, n_seen, zero, worst, worst)


def _repeat(step, searches, n_steps):
    for _ in range(n_steps):
        searches = step(searches)
    return searches


def _replay(step, searches, n_steps):
    """Take steps on a GPU by replaying a graph of the kernels of one.

    The kernels of small networks end sooner than Python launches the next ones.
    """
    if n_steps < _FEWEST_REPLAYED:
        return _repeat(step, searches, n_steps)
    device = searches.u.device
    with torch.cuda.device(device):
        searches = _Searches(*(column.clone() for column in searches))
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


def _step(loss_of, searches, rates):
    """Try the code of every search and take one step of Adam, or none after the last.

    No value is read by the host, nor made there: a GPU is never waited for.
    """
    u = searches.u.detach().requires_grad_()
    loss = loss_of(u)
    (gradient,) = torch.autograd.grad(loss.sum(), u)
    with torch.no_grad():
        better = loss < searches.loss_best
        mean = _BETA_1 * searches.mean + (1 - _BETA_1) * gradient
        square = _BETA_2 * searches.square + (1 - _BETA_2) * (gradient * gradient)
        rate, correction = rates[searches.n_seen.clamp(max=len(rates) - 1)].unbind(1)
        step = mean / (square.sqrt() * correction[:, None] + _EPSILON)
        return searches._replace(
            u=searches.u - rate[:, None] * step,
            mean=mean,
            square=square,
            n_seen=searches.n_seen + 1,
            u_best=torch.where(better[:, None], searches.u, searches.u_best),
            loss_best=torch.where(better, loss, searches.loss_best).detach(),
        )


def _learning_rates(n_steps, lr):
    """Adam's factors of step t, (n_steps + 1, 2), with its bias corrections.

    The last row is for searches that have taken all steps: it moves them no more.
    """
    t = torch.arange(1, n_steps + 1, dtype=torch.float64)
    rate = lr / (1 - _BETA_1**t)
    correction = 1 / (1 - _BETA_2**t).sqrt()
    return pad(torch.stack([rate, correction], 1), (0, 0, 0, 1))


def _coordinates(gradients):
    """C = M^(-1/4) of M = E[g g^T], up to a rotation, and of mean square length 1."""
    M, _ = ledoit_wolf(gradients.double().numpy(), assume_centered=True)
    eigenvalues, directions = np.linalg.eigh(M)
    if eigenvalues[-1] <= 0:  # an image that is always the same
        return torch.eye(len(M))
    lengths = np.maximum(eigenvalues, 1e-6 * eigenvalues[-1]) ** -0.25
    lengths /= np.sqrt(np.mean(lengths**2))
    return torch.from_numpy(directions * lengths)


def _check_finite(generator, discriminator, answers):
    if not answers.isfinite().all():
        raise FloatingPointError(
            f"{type(generator).__name__} or {type(discriminator).__name__} answered "
            "with NaN or infinity. Train networks whose answers are finite for every "
            "latent code and image."
        )
