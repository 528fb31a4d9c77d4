from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_anogan._devices import intraop_threads
from sklearn_anogan._inference import (
    CPU_BATCHES,
    AlignedLinear,
    inference_form,
)
from sklearn_anogan._inversion import (
    CHECK_EVERY,
    _begin,
    _learning_rates,
    _step,
    explore,
    invert,
)
from sklearn_anogan._losses import (
    anogan_loss,
    discrimination_loss,
    residual_loss,
    square_loss,
)
from sklearn_anogan._networks import (
    DenseDiscriminator,
    DenseGenerator,
    Discriminator,
    Generator,
    Recognizer,
)
from sklearn_anogan._transformations import transformations

LATENT_DIM = 5


def networks(shape, dtype=torch.float64, pair=(Generator, Discriminator)):
    """A random frozen pair whose batch norms have seen data."""
    torch.manual_seed(0)
    sizes = dict(zip(("n_channels", "height", "width"), shape, strict=True))
    G = pair[0](latent_dim=LATENT_DIM, n_filters=4, **sizes).to(dtype)
    D = pair[1](n_filters=4, **sizes).to(dtype)
    for parameter in (*G.parameters(), *D.parameters()):
        parameter.data *= 5  # initial weights are tiny: G would draw grey only
    for _ in range(5):
        D(G(torch.randn(20, LATENT_DIM, dtype=dtype)))
    return inference_form(G, "cpu"), inference_form(D, "cpu")


def recognizer_of(D, shape):
    known = transformations(*shape)
    if len(known) == 1:
        return None
    R = Recognizer(D.features(torch.zeros(1, *shape)).shape[1:], known)
    return inference_form(R, "cpu")


def search(G, D, x, codes, *, n_starts=None, recognizer=None, **changes):
    """Search from all codes in plain steps, or from the nearest of them."""
    settings = {"n_steps": 30, "lr": 0.05, "tol": 0, "discrimination_weight": 0.1}
    n_starts = n_starts or len(codes)
    candidates = explore(G, D, codes, n_starts, recognizer=recognizer)
    return invert(G, D, candidates, x, n_starts=n_starts, **(settings | changes))


def search_one_by_one(G, D, image, starts, n_steps, lr, w):
    """The paper's search of one image, in the plainest way there is."""
    best = (np.inf, None)
    for start in starts:
        z = start[None].clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=lr, betas=(0.8, 0.9))
        for step in range(n_steps + 1):
            G_z = G(z)
            residual = (image - G_z).abs().mean()
            features = (D.features(image[None]) - D.features(G_z)).abs().mean()
            loss = (1 - w) * residual + w * features
            if loss.item() < best[0]:
                best = (loss.item(), z.detach().clone())
            if step < n_steps:
                adam.zero_grad()
                loss.backward()
                adam.step()
    return best


@pytest.mark.parametrize("n_starts", [1, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9)])
def test_equals_plain_adam_on_each_image_alone(shape, n_starts):
    G, D = networks(shape)
    x = torch.rand(7, *shape, dtype=torch.float64) * 2 - 1
    starts = torch.rand(n_starts, LATENT_DIM, dtype=torch.float64) * 2 - 1
    # Not many more steps: where Adam bounces about a kink of the absolute values, the
    # rounding error of a step grows tenfold in the next few.
    found = search(G, D, x, starts, n_steps=40)
    for i, image in enumerate(x):
        loss, z = search_one_by_one(G, D, image, starts, 40, 0.05, 0.1)
        np.testing.assert_allclose(found.z[i], z[0], rtol=1e-5)
        total = 0.9 * found.residual[i] + 0.1 * found.discrimination[i]
        np.testing.assert_allclose(total, loss, rtol=1e-5)


def test_answers_belong_to_the_code():
    """Image and terms are those of the code returned, with w in its place."""
    G, D = networks((1, 8, 8))
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    starts = torch.rand(1, LATENT_DIM, dtype=torch.float64) * 2 - 1
    for w in (0.0, 0.1, 1.0):
        found = search(G, D, x, starts, discrimination_weight=w)
        G_z = G(found.z)
        torch.testing.assert_close(found.G_z, G_z)
        torch.testing.assert_close(found.residual, residual_loss(x, G_z))
        torch.testing.assert_close(found.squares, square_loss(x, G_z))
        f_x, f_G_z = D.features(x), D.features(G_z)
        torch.testing.assert_close(
            found.discrimination, discrimination_loss(f_x, f_G_z)
        )
    only_residual = search(G, D, x, starts, discrimination_weight=0.0).residual
    assert only_residual.mean() < found.residual.mean()
    assert not torch.equal(only_residual, found.residual)


def test_finds_a_generated_image():
    """An image that G can draw is found again; noise is not."""
    G, D = networks((1, 8, 8))
    z = torch.rand(4, LATENT_DIM, dtype=torch.float64) * 2 - 1
    starts = torch.rand(4, LATENT_DIM, dtype=torch.float64) * 2 - 1
    drawn = search(G, D, G(z), starts, n_steps=300).residual
    noise = torch.rand(4, 1, 8, 8, dtype=torch.float64) * 2 - 1
    assert drawn.max() < search(G, D, noise, starts, n_steps=300).residual.min() / 5


def test_best_code_is_kept():
    """A longer search, or more starts, never ends with a larger loss."""
    G, D = networks((1, 8, 8))
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64) * 2 - 1
    starts = torch.rand(4, LATENT_DIM, dtype=torch.float64) * 2 - 1

    def loss(n_starts, **changes):
        found = search(G, D, x, starts[:n_starts], **changes)
        return anogan_loss(found.residual, found.discrimination, 0.1)

    # A learning rate this large jumps about: the last code is hardly ever the best.
    by_steps = [loss(1, n_steps=n, lr=0.3) for n in (0, 3, 10, 30)]
    by_starts = [loss(n) for n in (1, 2, 4)]
    for losses in (by_steps, by_starts):
        for shorter, longer in pairwise(losses):
            assert (longer <= shorter + 1e-12).all()
        assert (losses[-1] < losses[0] - 1e-6).any()


def test_no_steps_compares_the_starts():
    G, D = networks((1, 8, 8))
    starts = torch.rand(3, LATENT_DIM, dtype=torch.float64) * 2 - 1
    found = search(G, D, G(starts), starts, n_steps=0)
    assert torch.equal(found.z, starts)
    assert (found.residual < 1e-12).all()


@pytest.mark.parametrize(
    "shape, pair",
    [
        ((1, 8, 8), (Generator, Discriminator)),
        ((3, 7, 4), (Generator, Discriminator)),
        ((10, 1, 1), (DenseGenerator, DenseDiscriminator)),
        ((37, 1, 1), (DenseGenerator, DenseDiscriminator)),
    ],
)
@pytest.mark.parametrize("n_codes, n_starts", [(1, 1), (2, 2), (150, 1), (150, 2)])
def test_an_image_never_sees_the_others(shape, pair, n_codes, n_starts):
    """The same bits alone, in any block and at any place of it, in float32."""
    G, D = networks(shape, torch.float32, pair)
    x = torch.rand(CPU_BATCHES[-1], *shape) * 2 - 1
    codes = torch.rand(n_codes, LATENT_DIM) * 2 - 1
    settings = {"n_starts": n_starts, "recognizer": recognizer_of(D, shape)}
    together = search(G, D, x, codes, **settings)
    assert (together.recognition != 0).all()
    for images in [
        torch.arange(5),
        torch.tensor([7]),
        torch.arange(CPU_BATCHES[-1]).flip(0),
        torch.randperm(CPU_BATCHES[-1]),
        torch.tensor([31, 3, 3, 3, 11]),
    ]:
        found = search(G, D, x[images], codes, **settings)
        for answer, reference in zip(found, together, strict=True):
            assert torch.equal(answer, reference[images])


def test_a_large_image_never_sees_the_others():
    """The terms of one image alone are not summed up by several threads."""
    torch.manual_seed(0)
    G = Linear(torch.randn(70_000, 3))
    x, codes = torch.randn(8, 1, 1, 70_000), torch.rand(20, 3)
    with intraop_threads(3):
        together = search(G, NoFeatures(), x, codes, n_starts=1, n_steps=1)
        for i in range(8):
            alone = search(G, NoFeatures(), x[[i]], codes, n_starts=1, n_steps=1)
            assert torch.equal(alone.residual[0], together.residual[i])


def test_tol_stops_each_image_on_its_own():
    """A converged image keeps its code; others go on, unmoved by it."""
    G, D = networks((1, 8, 8), torch.float32)
    starts = torch.rand(1, LATENT_DIM) * 2 - 1
    # The first image is the start's own: its loss is 0 and cannot fall.
    x = torch.cat([G(starts), torch.rand(5, 1, 8, 8) * 2 - 1])
    full = search(G, D, x, starts, n_steps=200, lr=0.01)
    stopped = search(G, D, x, starts, n_steps=200, lr=0.01, tol=0.05)
    early = search(G, D, x, starts, n_steps=CHECK_EVERY, lr=0.01)
    assert torch.equal(stopped.z[0], starts[0])
    assert not torch.equal(stopped.z, full.z)
    assert (stopped.residual[1:] < early.residual[1:]).any()
    for i in range(6):
        alone = search(G, D, x[i : i + 1], starts, n_steps=200, lr=0.01, tol=0.05)
        assert torch.equal(alone.z[0], stopped.z[i])


def test_tol_saves_steps():
    """Once every image has converged no more steps are taken."""
    G, D = networks((1, 8, 8), torch.float32)
    start = torch.rand(1, LATENT_DIM) * 2 - 1
    candidates = explore(G, D, start, 1)
    settings = {"n_starts": 1, "lr": 0.05, "discrimination_weight": 0.1}
    calls = []
    G.register_forward_hook(lambda *args: calls.append(1))
    invert(G, D, candidates, G(start), n_steps=500, tol=0.01, **settings)
    assert len(calls) < 4 * CHECK_EVERY


def test_starts_from_the_nearest_candidates():
    G, D = networks((1, 8, 8))
    codes = torch.rand(300, LATENT_DIM, dtype=torch.float64) * 2 - 1
    x = torch.rand(70, 1, 8, 8, dtype=torch.float64) * 2 - 1
    distances = torch.cdist(x.flatten(1), G(codes).flatten(1))
    found = search(G, D, x, codes, n_starts=1, n_steps=0)
    assert torch.equal(found.z, codes[distances.argmin(1)])
    # Of several, the one with the smallest loss.
    found = search(G, D, x, codes, n_starts=3, n_steps=0)
    nearest = distances.topk(3, largest=False).indices
    for i, image in enumerate(x):
        G_z = G(codes[nearest[i]])
        features = discrimination_loss(D.features(image[None]), D.features(G_z))
        losses = anogan_loss(residual_loss(image, G_z), features, 0.1)
        assert torch.equal(found.z[i], codes[nearest[i, losses.argmin()]])


def test_few_codes_are_the_papers_search():
    """No candidates to choose from: random starts and plain steps."""
    G, D = networks((1, 8, 8))
    codes = torch.rand(2, LATENT_DIM, dtype=torch.float64) * 2 - 1
    assert isinstance(explore(G, D, codes, 2).coordinates, nn.Identity)
    assert not isinstance(explore(G, D, codes, 1).coordinates, nn.Identity)


class Linear(nn.Module):
    """Generator x = A z of 1x3 images."""

    def __init__(self, A):
        super().__init__()
        self.A = nn.Parameter(A)

    def forward(self, z):
        return (z @ self.A.T).view(len(z), 1, 1, -1)


class NoFeatures(nn.Module):
    def features(self, x):
        return x.new_zeros(len(x), 1) * x.sum()


def test_coordinates_even_out_the_generator():
    """C C^T is (A^T A)^(-1/2), scaled to a mean square length of 1."""
    Q, _ = torch.linalg.qr(torch.arange(9.0).view(3, 3).sin().double())
    A = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)) @ Q
    codes = torch.zeros(20_000, 3, dtype=torch.float64)
    C = explore(Linear(A), NoFeatures(), codes, 1).coordinates.weight
    wanted = Q.T @ torch.diag(torch.tensor([1, 1 / 4, 1 / 9]).double()) @ Q
    wanted *= 3 / wanted.trace()
    torch.testing.assert_close(C @ C.T, wanted, rtol=0.05, atol=0.01)
    collapsed = explore(Linear(0 * A), NoFeatures(), codes[:100], 1)
    assert torch.equal(collapsed.coordinates.weight, torch.eye(3).double())


def test_exploring_saves_steps():
    """Fewer steps from the nearest candidate end lower than many from a random start.

    The generator is far more sensitive in some directions than in others.
    """
    torch.manual_seed(0)
    directions, _ = torch.linalg.qr(torch.randn(8, 8))
    G = Linear(torch.randn(40, 8) * 2.0 ** -torch.arange(8.0) @ directions)
    x = G(torch.rand(50, 8) * 2 - 1).detach()
    codes = torch.rand(500, 8) * 2 - 1
    explored = search(G, NoFeatures(), x, codes, n_starts=1, n_steps=25)
    plain = search(G, NoFeatures(), x, codes[:1], n_steps=50)
    assert explored.residual.mean() < plain.residual.mean() / 2


@pytest.mark.parametrize("limit", [1, 3, 8, 20])
def test_fewer_side_by_side(limit):
    """A limit of batches changes no bit, down to the smallest size that is exact."""
    G, D = networks((1, 8, 8), torch.float32)
    x, codes = torch.rand(20, 1, 8, 8) * 2 - 1, torch.rand(100, LATENT_DIM) * 2 - 1
    largest = []
    G.register_forward_hook(lambda module, args, output: largest.append(len(output)))
    candidates = explore(G, D, codes, 2)
    settings = {"n_starts": 2, "n_steps": 5, "lr": 0.05, "tol": 0.0}
    settings["discrimination_weight"] = 0.1
    free = invert(G, D, candidates, x, **settings)
    largest.clear()
    limited = invert(G, D, candidates, x, largest_batch=limit, **settings)
    assert max(largest) <= limit
    if limit >= CPU_BATCHES[0]:
        assert torch.equal(limited.z, free.z)
    else:
        torch.testing.assert_close(limited.z, free.z, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_threads", [1, 3, 4])
def test_threads_change_no_bit(n_threads):
    G, D = networks((1, 8, 8), torch.float32)
    x, codes = torch.rand(20, 1, 8, 8) * 2 - 1, torch.rand(100, LATENT_DIM) * 2 - 1
    candidates = explore(G, D, codes, 1, recognizer=recognizer_of(D, (1, 8, 8)))
    settings = {"n_starts": 1, "n_steps": 10, "lr": 0.05, "tol": 0.0}
    settings["discrimination_weight"] = 0.1
    reference = invert(G, D, candidates, x, **settings)
    with intraop_threads(n_threads):
        found = invert(G, D, candidates, x, **settings)
    for answer, wanted in zip(found, reference, strict=True):
        assert torch.equal(answer, wanted)


def test_steps_never_wait_for_the_host():
    """On the meta device, reading a value or mixing in the CPU's tensors raises."""
    G, D = (network.to("meta") for network in networks((1, 8, 8), torch.float32))
    x = torch.empty(64, 1, 8, 8, device="meta")
    f_x = D.features(x)

    coordinates = AlignedLinear.of(torch.empty(LATENT_DIM, LATENT_DIM, device="meta"))

    def loss_of(u):
        G_z = G(coordinates(u))
        return anogan_loss(
            residual_loss(x, G_z), discrimination_loss(f_x, D.features(G_z)), 0.1
        )

    starts = torch.empty(64, LATENT_DIM, device="meta")
    searches = _begin(starts, torch.arange(64, device="meta"))
    rates = _learning_rates(3, 0.1).to(x)
    for _ in range(3):
        searches = _step(loss_of, searches, rates)
    assert {column.device.type for column in searches} == {"meta"}
    assert searches.u.shape == (64, LATENT_DIM)


@pytest.mark.parametrize("n_starts", [1, 3])
def test_searches_that_end_make_room(n_starts):
    """More searches than fit side by side, ending at different times."""
    G, D = networks((1, 8, 8), torch.float32)
    starts = torch.rand(n_starts, LATENT_DIM) * 2 - 1
    x = torch.rand(150, 1, 8, 8) * 2 - 1
    x[::2] = G(torch.rand(75, LATENT_DIM) * 2 - 1)
    together = search(G, D, x, starts, n_steps=90, tol=0.05)
    for i in (0, 1, 63, 64, 100, 149):
        alone = search(G, D, x[i : i + 1], starts, n_steps=90, tol=0.05)
        for answer, reference in zip(alone, together, strict=True):
            assert torch.equal(answer[0], reference[i])


@pytest.mark.parametrize("which", ["generator", "discriminator"])
def test_networks_that_answer_nan(which):
    G, D = networks((1, 8, 8), torch.float32)
    broken = G if which == "generator" else D.features
    broken.register_forward_hook(lambda module, args, output: output * torch.nan)
    x = torch.rand(3, 1, 8, 8)
    with pytest.raises(FloatingPointError, match="Generator or Discriminator answered"):
        search(G, D, x, torch.zeros(1, LATENT_DIM))
    with pytest.raises(FloatingPointError, match="Generator or Discriminator answered"):
        search(G, D, x, torch.rand(100, LATENT_DIM), n_starts=1)


@pytest.mark.parametrize("n_codes", [1, 100])
def test_generator_of_other_images(n_codes):
    """Also of those that would broadcast."""
    G, _ = networks((1, 8, 8), torch.float32)
    codes = torch.rand(n_codes, LATENT_DIM)
    small = nn.Sequential(G, nn.AdaptiveAvgPool2d(1))
    identity = Linear(torch.eye(LATENT_DIM))
    for generator, x in [
        (G, torch.rand(2, 1, 8, 1)),
        (small, torch.rand(2, 1, 8, 8)),
        (identity, torch.rand(2, 1, 8, 8)),
    ]:
        with pytest.raises(ValueError, match="generates images of"):
            search(generator, NoFeatures(), x, codes, n_starts=1)


def test_works_inside_no_grad():
    G, D = networks((1, 8, 8), torch.float32)
    x, starts = torch.rand(2, 1, 8, 8), torch.rand(1, LATENT_DIM)
    with torch.no_grad():
        inside = search(G, D, x, starts)
    assert torch.equal(inside.z, search(G, D, x, starts).z)


@pytest.mark.gpu
def test_graphed_steps_are_steps(monkeypatch):
    G, D = (inference_form(net, "cuda") for net in networks((1, 8, 8), torch.float32))
    x, codes = torch.rand(900, 1, 8, 8).cuda(), torch.rand(100, LATENT_DIM).cuda()
    graphed = search(G, D, x, codes, n_starts=1)
    monkeypatch.setattr("sklearn_anogan._inversion._FEWEST_REPLAYED", 10_000)
    stepped = search(G, D, x, codes, n_starts=1)
    for answer, reference in zip(graphed, stepped, strict=True):
        assert torch.equal(answer, reference)


@pytest.mark.gpu
def test_on_a_gpu():
    G, D = networks((1, 8, 8), torch.float32)
    x, starts = torch.rand(5, 1, 8, 8), torch.rand(2, LATENT_DIM)
    on_cpu = search(G, D, x, starts, n_steps=5)
    on_gpu = search(
        inference_form(G, "cuda"),
        inference_form(D, "cuda"),
        x.cuda(),
        starts.cuda(),
        n_steps=5,
    )
    assert on_gpu.z.is_cuda
    torch.testing.assert_close(on_gpu.z.cpu(), on_cpu.z, rtol=1e-3, atol=1e-3)
