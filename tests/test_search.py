import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.utils import Bunch
from torch import nn

from sklearn_anogan._devices import intraop_threads
from sklearn_anogan._inference import (
    CPU_BATCHES,
    AlignedLinear,
    FrozenNetworks,
    inference_form,
)
from sklearn_anogan._losses import (
    anogan_loss,
    discrimination_loss,
    residual_loss,
    smooth,
)
from sklearn_anogan._networks import (
    DenseDiscriminator,
    DenseGenerator,
    Discriminator,
    Generator,
    Recognizer,
)
from sklearn_anogan._ruler import Ruler, measured_size
from sklearn_anogan._samples import described
from sklearn_anogan._score import TERMS, measure_terms
from sklearn_anogan._search import (
    Pairs,
    Searchers,
    SearchSettings,
    _searcher,
    search_in_blocks,
)
from sklearn_anogan._search._descent import (
    CHECK_EVERY,
    Searches,
    learning_rates,
    step,
)
from sklearn_anogan._search._exploration import explore, find_starts
from sklearn_anogan._search._searcher import Searcher
from sklearn_anogan._transformations import transformations

LATENT_DIM = 5

SETTINGS = SearchSettings(
    n_starts=1,
    n_candidates=1,
    n_steps=30,
    lr=0.05,
    tol=0,
    discrimination_weight=0.1,
    with_encoder=False,
)


def random_pair(shape, dtype=torch.float64, pair=(Generator, Discriminator)):
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


def frozen(G, D, recognizer=None, ruler=None, *, latent_dim=LATENT_DIM, device="cpu"):
    """The networks and their batch sizes, which are measured if they are float32."""
    weight = next(G.parameters())
    with torch.no_grad():
        seen = tuple(G(weight.new_zeros(1, latent_dim)).shape[2:])
    networks = FrozenNetworks(
        G, D, None, recognizer, ruler, latent_dim, seen, torch.device(device)
    )
    if {parameter.dtype for parameter in G.parameters()} == {torch.float64}:
        return replace(networks, n_threads=1, sizes=CPU_BATCHES)
    return networks.measured()


def random_networks(*args):
    """The pair of `random_pair`, in float64 unless told otherwise."""
    return frozen(*random_pair(*args))


def recognizer_of(D, shape):
    R = Recognizer(
        D.features(torch.zeros(1, *shape)).shape[1:], transformations(*shape)
    )
    return inference_form(R, "cpu")


def random_images(n, shape):
    rng = torch.Generator().manual_seed(0)
    return torch.rand(n, *shape, generator=rng) * 2 - 1


def ruler_of(shape):
    """A ruler that has learned from noise; None if images have no places."""
    x = random_images(20, shape)
    return Ruler.learn(x) if measured_size(*shape[1:]) else None


def searcher_of(networks, codes, *, n_starts=None, **changes):
    """Searches from all codes in plain steps, or from the nearest of them."""
    n_starts = n_starts or len(codes)
    settings = replace(SETTINGS, n_starts=n_starts, **changes)
    return Searcher(networks, explore(networks, codes, n_starts), settings)


def answer(searcher, x):
    """The codes and the images that a searcher finds, and the terms of the score."""
    networks = searcher.networks
    x = x.contiguous(memory_format=torch.channels_last)
    names = {*TERMS}
    if not networks.recognizer:
        names -= {"recognition"}
    if not networks.ruler:
        names -= {"deviation", "largest_deviation"}
    terms = [TERMS[name] for name in sorted(names)]
    samples = described(random_images(20, networks.seen(x).shape[1:])).double()
    networks = replace(networks, samples=samples[:10].float())
    learned = {
        "largest_residual": {"scale": torch.ones(x.shape[1:])},
        "density": {
            "samples": samples[10:],
            "scale": torch.ones(samples.shape[1]),
            "distances": torch.linspace(1, 2, 20),
        },
    }
    if networks.ruler:
        coarse, fine = (torch.ones(each.shape[1:]) for each in networks.distances(x))
        learned["largest_deviation"] = {
            "coarse_mean": coarse,
            "coarse_std": coarse,
            "fine_mean": fine,
            "fine_std": fine,
        }
    with networks.rounding_alike():
        z, G_z = searcher.search(x)
        values = measure_terms(x, z, G_z, networks, terms, learned)["terms"]
    by_name = zip(sorted(names), values.unbind(1), strict=True)
    return Bunch(z=z, G_z=G_z, **dict(by_name))


def search(networks, x, codes, **changes):
    return answer(searcher_of(networks, codes, **changes), x)


def assert_same_bits(found, wanted):
    assert found.keys() == wanted.keys()
    for name in found:
        assert torch.equal(found[name], wanted[name]), name


def of_images(found, images):
    return {name: tensor[images] for name, tensor in found.items()}


def search_one_by_one(networks, image, starts, n_steps, lr, w):
    """The paper's search of one image, in the plainest way there is."""
    G, D = networks.generator, networks.discriminator
    best = (np.inf, None)
    for start in starts:
        z = start[None].clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=lr, betas=(0.8, 0.9))
        for n_taken in range(n_steps + 1):
            G_z = G(z)
            residual = (image - G_z).abs().mean()
            features = (D.features(image[None]) - D.features(G_z)).abs().mean()
            loss = (1 - w) * residual + w * features
            if loss.item() < best[0]:
                best = (loss.item(), z.detach().clone())
            if n_taken < n_steps:
                adam.zero_grad()
                loss.backward()
                adam.step()
    return best


@pytest.mark.parametrize("n_starts", [1, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9)])
def test_equals_plain_adam_on_each_image_alone(shape, n_starts):
    networks = random_networks(shape)
    x = torch.rand(7, *shape, dtype=torch.float64) * 2 - 1
    starts = torch.rand(n_starts, LATENT_DIM, dtype=torch.float64) * 2 - 1
    # Not many more steps: where Adam bounces about a kink of the absolute values, the
    # rounding error of a step grows tenfold in the next few.
    found = search(networks, x, starts, n_steps=40)
    for i, image in enumerate(x):
        loss, z = search_one_by_one(networks, image, starts, 40, 0.05, 0.1)
        np.testing.assert_allclose(found.z[i], z[0], rtol=1e-5)
        total = 0.9 * found.residual[i] + 0.1 * found.discrimination[i]
        np.testing.assert_allclose(total, loss, rtol=1e-5)


def test_answers_belong_to_the_code():
    """Image and terms are those of the code returned, with w in its place."""
    networks = random_networks((1, 8, 8))
    G, D = networks.generator, networks.discriminator
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    starts = torch.rand(1, LATENT_DIM, dtype=torch.float64) * 2 - 1
    for w in (0.0, 0.1, 1.0):
        found = search(networks, x, starts, discrimination_weight=w)
        G_z = G(found.z)
        torch.testing.assert_close(found.G_z, G_z)
        torch.testing.assert_close(found.residual, residual_loss(x, G_z))
        squares = smooth(x - G_z).square()
        torch.testing.assert_close(found.squared_residual, squares.mean((1, 2, 3)))
        f_x, f_G_z = D.features(x), D.features(G_z)
        torch.testing.assert_close(
            found.discrimination, discrimination_loss(f_x, f_G_z)
        )
    only_residual = search(networks, x, starts, discrimination_weight=0.0).residual
    assert only_residual.mean() < found.residual.mean()
    assert not torch.equal(only_residual, found.residual)


def test_finds_a_generated_image():
    """An image that G can draw is found again; noise is not."""
    networks = random_networks((1, 8, 8))
    z = torch.rand(4, LATENT_DIM, dtype=torch.float64) * 2 - 1
    starts = torch.rand(4, LATENT_DIM, dtype=torch.float64) * 2 - 1
    drawn = search(networks, networks.generator(z), starts, n_steps=300).residual
    noise = torch.rand(4, 1, 8, 8, dtype=torch.float64) * 2 - 1
    noise = search(networks, noise, starts, n_steps=300).residual
    assert drawn.max() < noise.min() / 5


def test_best_code_is_kept():
    """A longer search, or more starts, never ends with a larger loss."""
    networks = random_networks((1, 8, 8))
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64) * 2 - 1
    starts = torch.rand(4, LATENT_DIM, dtype=torch.float64) * 2 - 1

    def loss(n_starts, **changes):
        found = search(networks, x, starts[:n_starts], **changes)
        return anogan_loss(found.residual, found.discrimination, 0.1)

    # A learning rate this large jumps about: the last code is hardly ever the best.
    by_steps = [loss(1, n_steps=n, lr=0.3) for n in (0, 3, 10, 30)]
    by_starts = [loss(n) for n in (1, 2, 4)]
    for losses in (by_steps, by_starts):
        for shorter, longer in pairwise(losses):
            assert (longer <= shorter + 1e-12).all()
        assert (losses[-1] < losses[0] - 1e-6).any()


def test_no_steps_compares_the_starts():
    networks = random_networks((1, 8, 8))
    starts = torch.rand(3, LATENT_DIM, dtype=torch.float64) * 2 - 1
    found = search(networks, networks.generator(starts), starts, n_steps=0)
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
    G, D = random_pair(shape, torch.float32, pair)
    networks = frozen(G, D, recognizer_of(D, shape), ruler_of(shape))
    x = torch.rand(CPU_BATCHES[-1], *shape) * 2 - 1
    codes = torch.rand(n_codes, LATENT_DIM) * 2 - 1
    together = search(networks, x, codes, n_starts=n_starts)
    assert (together.recognition != 0).all()
    for images in [
        torch.arange(5),
        torch.tensor([7]),
        torch.arange(CPU_BATCHES[-1]).flip(0),
        torch.randperm(CPU_BATCHES[-1]),
        torch.tensor([31, 3, 3, 3, 11]),
    ]:
        found = search(networks, x[images], codes, n_starts=n_starts)
        assert_same_bits(found, of_images(together, images))


def test_a_large_image_never_sees_the_others():
    """The terms of one image alone are not summed up by several threads."""
    torch.manual_seed(0)
    G = Linear(torch.randn(70_000, 3))
    x, codes = torch.randn(8, 1, 1, 70_000), torch.rand(20, 3)
    with intraop_threads(3):
        networks = frozen(G, NoFeatures(), latent_dim=3)
        together = search(networks, x, codes, n_starts=1, n_steps=1)
        for i in range(8):
            alone = search(networks, x[[i]], codes, n_starts=1, n_steps=1)
            assert torch.equal(alone.residual[0], together.residual[i])


def test_tol_stops_each_image_on_its_own():
    """A converged image keeps its code; others go on, unmoved by it."""
    networks = random_networks((1, 8, 8), torch.float32)
    starts = torch.rand(1, LATENT_DIM) * 2 - 1
    # The first image is the start's own: its loss is 0 and cannot fall.
    x = torch.cat([networks.generator(starts), torch.rand(5, 1, 8, 8) * 2 - 1])
    full = search(networks, x, starts, n_steps=200, lr=0.01)
    stopped = search(networks, x, starts, n_steps=200, lr=0.01, tol=0.05)
    early = search(networks, x, starts, n_steps=CHECK_EVERY, lr=0.01)
    assert torch.equal(stopped.z[0], starts[0])
    assert not torch.equal(stopped.z, full.z)
    assert (stopped.residual[1:] < early.residual[1:]).any()
    for i in range(6):
        alone = search(networks, x[[i]], starts, n_steps=200, lr=0.01, tol=0.05)
        assert torch.equal(alone.z[0], stopped.z[i])


def test_tol_saves_steps():
    """Once every image has converged no more steps are taken."""
    networks = random_networks((1, 8, 8), torch.float32)
    start = torch.rand(1, LATENT_DIM) * 2 - 1
    searcher = searcher_of(networks, start, n_steps=500, tol=0.01)
    calls = []
    networks.generator.register_forward_hook(lambda *args: calls.append(1))
    answer(searcher, networks.generator(start))
    assert len(calls) < 4 * CHECK_EVERY


def test_starts_from_the_nearest_candidates():
    networks = random_networks((1, 8, 8))
    G, D = networks.generator, networks.discriminator
    codes = torch.rand(300, LATENT_DIM, dtype=torch.float64) * 2 - 1
    x = torch.rand(70, 1, 8, 8, dtype=torch.float64) * 2 - 1
    distances = torch.cdist(x.flatten(1), G(codes).flatten(1))
    found = search(networks, x, codes, n_starts=1, n_steps=0)
    assert torch.equal(found.z, codes[distances.argmin(1)])
    # Of several, the one with the smallest loss.
    found = search(networks, x, codes, n_starts=3, n_steps=0)
    nearest = distances.topk(3, largest=False).indices
    for i, image in enumerate(x):
        G_z = G(codes[nearest[i]])
        features = discrimination_loss(D.features(image[None]), D.features(G_z))
        losses = anogan_loss(residual_loss(image, G_z), features, 0.1)
        assert torch.equal(found.z[i], codes[nearest[i, losses.argmin()]])


@pytest.mark.parametrize("n_codes", [2, 100])
def test_the_encoder_takes_the_place_of_the_last_candidate(n_codes):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, LATENT_DIM)).double()
    networks = replace(random_networks((1, 8, 8)), encoder=encoder)
    codes = torch.rand(n_codes, LATENT_DIM, dtype=torch.float64) * 2 - 1
    x = torch.rand(7, 1, 8, 8, dtype=torch.float64) * 2 - 1
    exploration = explore(networks, codes, 2)
    starts = find_starts(networks, exploration, x, 2, True)
    candidates = find_starts(networks, exploration, x, 1, False)
    torch.testing.assert_close(starts[::2], encoder(x))
    assert torch.equal(starts[1::2], candidates)
    assert torch.equal(find_starts(networks, exploration, x, 1, True), starts[::2])
    # With neither steps nor choice, its code is the answer.
    searcher = Searcher(networks, exploration, replace(SETTINGS, n_steps=0))
    plain = answer(searcher, x)
    encoded = answer(
        replace(searcher, settings=replace(searcher.settings, with_encoder=True)), x
    )
    assert torch.equal(plain.z, candidates)
    assert torch.equal(encoded.z, starts[::2])


def test_few_codes_are_the_papers_search():
    """No candidates to choose from: random starts and plain steps."""
    networks = random_networks((1, 8, 8))
    codes = torch.rand(2, LATENT_DIM, dtype=torch.float64) * 2 - 1
    assert isinstance(explore(networks, codes, 2).coordinates, nn.Identity)
    assert not isinstance(explore(networks, codes, 1).coordinates, nn.Identity)


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
    networks = frozen(Linear(A), NoFeatures(), latent_dim=3)
    C = explore(networks, codes, 1).coordinates.weight
    wanted = Q.T @ torch.diag(torch.tensor([1, 1 / 4, 1 / 9]).double()) @ Q
    wanted *= 3 / wanted.trace()
    torch.testing.assert_close(C @ C.T, wanted, rtol=0.05, atol=0.01)
    networks = frozen(Linear(0 * A), NoFeatures(), latent_dim=3)
    collapsed = explore(networks, codes[:100], 1)
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
    networks = frozen(G, NoFeatures(), latent_dim=8)
    explored = search(networks, x, codes, n_starts=1, n_steps=25)
    plain = search(networks, x, codes[:1], n_steps=50)
    assert explored.residual.mean() < plain.residual.mean() / 2


@pytest.mark.parametrize("limit", [1, 3, 8, 20])
def test_fewer_side_by_side(limit):
    """A limit of batches changes no bit, down to the smallest size that is exact."""
    networks = random_networks((1, 8, 8), torch.float32)
    x, codes = torch.rand(20, 1, 8, 8) * 2 - 1, torch.rand(100, LATENT_DIM) * 2 - 1
    largest = []
    networks.generator.register_forward_hook(
        lambda module, args, output: largest.append(len(output))
    )
    searcher = searcher_of(networks, codes, n_starts=2, n_steps=5)
    free = answer(searcher, x)
    largest.clear()
    limited = answer(searcher.limited_to(limit), x)
    assert max(largest) <= limit
    if limit >= CPU_BATCHES[0]:
        assert torch.equal(limited.z, free.z)
    else:
        torch.testing.assert_close(limited.z, free.z, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_threads", [1, 3, 4])
def test_threads_change_no_bit(n_threads):
    G, D = random_pair((1, 8, 8), torch.float32)
    networks = frozen(G, D, recognizer_of(D, (1, 8, 8)), ruler_of((1, 8, 8)))
    x, codes = torch.rand(20, 1, 8, 8) * 2 - 1, torch.rand(100, LATENT_DIM) * 2 - 1
    searcher = searcher_of(networks, codes, n_starts=1, n_steps=10)
    reference = answer(searcher, x)
    with intraop_threads(n_threads):
        found = answer(replace(searcher, networks=networks.measured()), x)
    assert_same_bits(found, reference)


def test_steps_never_wait_for_the_host():
    """On the meta device, reading a value or mixing in the CPU's tensors raises."""
    G, D = (network.to("meta") for network in random_pair((1, 8, 8), torch.float32))
    x = torch.empty(64, 1, 8, 8, device="meta")
    f_x = D.features(x)

    coordinates = AlignedLinear.of(torch.empty(LATENT_DIM, LATENT_DIM, device="meta"))

    def loss_of(u):
        G_z = G(coordinates(u))
        return anogan_loss(
            residual_loss(x, G_z), discrimination_loss(f_x, D.features(G_z)), 0.1
        )

    starts = torch.empty(64, LATENT_DIM, device="meta")
    searches = Searches.begin(starts, torch.arange(64, device="meta"))
    rates = learning_rates(3, 0.1).to(x)
    for _ in range(3):
        searches = step(loss_of, searches, rates)
    assert {column.device.type for column in searches} == {"meta"}
    assert searches.u.shape == (64, LATENT_DIM)


@pytest.mark.parametrize("n_starts", [1, 3])
def test_searches_that_end_make_room(n_starts):
    """More searches than fit side by side, ending at different times."""
    networks = random_networks((1, 8, 8), torch.float32)
    starts = torch.rand(n_starts, LATENT_DIM) * 2 - 1
    x = torch.rand(150, 1, 8, 8) * 2 - 1
    x[::2] = networks.generator(torch.rand(75, LATENT_DIM) * 2 - 1)
    together = search(networks, x, starts, n_steps=90, tol=0.05)
    for i in (0, 1, 63, 64, 100, 149):
        alone = search(networks, x[[i]], starts, n_steps=90, tol=0.05)
        assert_same_bits(alone, of_images(together, [i]))


def broken_networks(which):
    """A pair whose generator, or discriminator, answers with NaN."""
    G, D = random_pair((1, 8, 8), torch.float32)
    broken = G if which == "generator" else D.features
    broken.register_forward_hook(lambda module, args, output: output * torch.nan)
    return frozen(G, D)


@pytest.mark.parametrize("n_steps", [0, 30])
@pytest.mark.parametrize("which", ["generator", "discriminator"])
def test_networks_that_answer_nan(which, n_steps):
    networks = broken_networks(which)
    x = torch.rand(3, 1, 8, 8)
    with pytest.raises(FloatingPointError, match="Generator or Discriminator answered"):
        search(networks, x, torch.zeros(1, LATENT_DIM), n_steps=n_steps)
    with pytest.raises(FloatingPointError, match="Generator or Discriminator answered"):
        search(networks, x, torch.rand(100, LATENT_DIM), n_starts=1, n_steps=n_steps)


@pytest.mark.parametrize(
    "which, n_steps", [("generator", 0), ("generator", 30), ("discriminator", 30)]
)
@pytest.mark.parametrize("n_codes", [1, 100])
def test_the_search_itself_refuses_nan(which, n_steps, n_codes):
    """Also where no term is measured, as for codes, reconstructions and maps."""
    networks, codes = broken_networks(which), torch.rand(n_codes, LATENT_DIM)
    x = torch.rand(3, 1, 8, 8)
    with pytest.raises(FloatingPointError, match="Generator or Discriminator answered"):
        searcher_of(networks, codes, n_starts=1, n_steps=n_steps).search(x)


@pytest.mark.parametrize("n_codes", [1, 100])
def test_generator_of_other_images(n_codes):
    """Also of those that would broadcast."""
    G, _ = random_pair((1, 8, 8), torch.float32)
    codes = torch.rand(n_codes, LATENT_DIM)
    small = nn.Sequential(G, nn.AdaptiveAvgPool2d(1))
    identity = Linear(torch.eye(LATENT_DIM))
    for generator, x in [
        (G, torch.rand(2, 1, 8, 1)),
        (small, torch.rand(2, 1, 8, 8)),
        (identity, torch.rand(2, 1, 8, 8)),
    ]:
        with pytest.raises(ValueError, match="generates images of"):
            search(frozen(generator, NoFeatures()), x, codes, n_starts=1)


def test_works_inside_no_grad():
    G, D = random_pair((1, 8, 8), torch.float32)
    x, starts = torch.rand(2, 1, 8, 8), torch.rand(1, LATENT_DIM)
    with torch.no_grad():
        inside = search(frozen(G, D), x, starts)
    assert torch.equal(inside.z, search(frozen(G, D), x, starts).z)


@pytest.fixture
def descended(monkeypatch):
    """Numbers of starts of the descents so far, one number a descent."""
    numbers, descend = [], _searcher.descend

    def counting(networks, coordinates, x, starts, settings):
        numbers.append(len(starts))
        return descend(networks, coordinates, x, starts, settings)

    monkeypatch.setattr(_searcher, "descend", counting)
    return numbers


def test_nothing_to_choose_means_no_descent(descended):
    """With one start and no steps, the start is the answer; D is not even asked."""
    G, D = random_pair((1, 8, 8), torch.float32)
    networks = frozen(G, D)
    x, codes = torch.rand(9, 1, 8, 8) * 2 - 1, torch.rand(100, LATENT_DIM) * 2 - 1
    asked = []
    D.features.register_forward_hook(lambda *args: asked.append(1))
    for n_starts, n_steps, wanted in [(1, 0, []), (2, 0, [18]), (1, 1, [9])]:
        searcher = searcher_of(networks, codes, n_starts=n_starts, n_steps=n_steps)
        descended.clear()
        asked.clear()
        with networks.rounding_alike():
            z, G_z = searcher.search(x)
        assert descended == wanted
        assert bool(asked) == bool(wanted)
        if not wanted:
            distances = torch.cdist(x.flatten(1), G(codes).flatten(1))
            assert torch.equal(z, codes[distances.argmin(1)])
            torch.testing.assert_close(G_z, G(z))


def everything(x, z, G_z, networks):
    return {"x": x, "z": z, "G_z": G_z}


def test_pairs_search_their_images_once(fitted, zeros, searched, monkeypatch):
    """The images that are generated again have the bits of the search's own."""
    monkeypatch.setattr("sklearn_anogan._images._BLOCK_VALUES", 3 * 64)
    images = fitted._check_images(zeros, reset=False)
    index = np.random.RandomState(0).permutation(len(zeros))[:70]
    wanted = search_in_blocks(*fitted._search(), images, index, everything)
    assert sum(searched) == 70

    searched.clear()
    groups = np.arange(len(index))
    pairs = Pairs(*fitted._search(), images, index, groups)
    assert sum(searched) == len(pairs) == 70
    searched.clear()
    assert torch.equal(pairs.codes, wanted["z"])
    assert_same_bits(pairs.map(everything), wanted)
    blocks = list(pairs.blocks())
    assert [len(x) for x, _ in blocks] == [3] * 23 + [1]
    for name, tensors in zip(("x", "G_z"), zip(*blocks, strict=True), strict=True):
        assert torch.equal(torch.cat(tensors), wanted[name])
    assert not searched


@pytest.fixture
def explored(monkeypatch):
    """Numbers of candidates of the explorations so far."""
    numbers, explore = [], _searcher.explore

    def counting(networks, z, n_starts):
        numbers.append(len(z))
        return explore(networks, z, n_starts)

    monkeypatch.setattr(_searcher, "explore", counting)
    return numbers


#: For torch these are one device, for a cache they are two.
DEVICES = torch.device("cpu"), torch.device("cpu:0")


def test_one_exploration_is_kept_for_each_device(fitted, explored):
    searchers = Searchers(fitted.model_)
    settings = replace(SETTINGS, n_candidates=60)
    first, other = (searchers.make(device, settings) for device in DEVICES)
    assert explored == [60, 60]
    assert first.exploration is not other.exploration
    # Only the candidates decide, and whether there is a choice among them.
    changes = {"n_starts": 3, "n_steps": 7, "lr": 0.1, "tol": 0.1, "with_encoder": True}
    for name, value in changes.items():
        again = searchers.make(DEVICES[0], replace(settings, **{name: value}))
        assert again.exploration is first.exploration
        assert again.networks is first.networks
    assert explored == [60, 60]

    # The last one of the device goes; the other device keeps its own.
    fewer = searchers.make(DEVICES[0], replace(settings, n_candidates=50))
    assert explored == [60, 60, 50]
    assert len(fewer.exploration.candidates) == 50
    assert searchers.make(DEVICES[1], settings).exploration is other.exploration
    assert explored == [60, 60, 50]
    back = searchers.make(DEVICES[0], settings)
    assert explored == [60, 60, 50, 60]
    assert torch.equal(back.exploration.candidates, first.exploration.candidates)
    assert len(searchers._explored) == 2
    # No choice is another exploration, even among as many candidates.
    no_choice = searchers.make(DEVICES[0], replace(settings, n_starts=60))
    assert no_choice.exploration.similarity is None


def test_batches_are_measured_once_for_a_number_of_threads(fitted, monkeypatch):
    measured = []
    measure = FrozenNetworks.measured

    def counting(self):
        measured.append(torch.get_num_threads())
        return measure(self)

    monkeypatch.setattr(FrozenNetworks, "measured", counting)
    searchers = Searchers(fitted.model_)
    with intraop_threads(3):
        made = [searchers.make(DEVICES[0], SETTINGS, n) for n in (None, 2, 3, 2, None)]
    assert measured == [3, 2]
    assert [each.networks is made[0].networks for each in made] == [1, 0, 1, 0, 1]
    assert made[1].networks is made[3].networks
    assert len({each.networks.generator for each in made}) == 1
    assert len({id(each.exploration) for each in made}) == 1


def test_a_pickle_of_searchers_holds_the_model_only(fitted, zeros):
    searchers = Searchers(fitted.model_)
    before = pickle.dumps(searchers)
    settings = replace(SETTINGS, n_candidates=500)
    x = torch.from_numpy(zeros[:5, None] / 8 - 1).float()
    found = answer(searchers.make(DEVICES[0], settings), x)
    after = pickle.dumps(searchers)
    assert len(after) == len(before)
    assert len(after) < len(pickle.dumps(fitted.model_)) + 200
    copied = pickle.loads(after)
    assert (copied._networks, copied._measured, copied._explored) == ({}, {}, {})
    assert_same_bits(answer(copied.make(DEVICES[0], settings), x), found)


@pytest.mark.gpu
def test_graphed_steps_are_steps(monkeypatch):
    pair = random_pair((1, 8, 8), torch.float32)
    networks = frozen(*(inference_form(net, "cuda") for net in pair), device="cuda")
    x, codes = torch.rand(900, 1, 8, 8).cuda(), torch.rand(100, LATENT_DIM).cuda()
    graphed = search(networks, x, codes, n_starts=1)
    monkeypatch.setattr("sklearn_anogan._search._descent._FEWEST_REPLAYED", 10_000)
    assert_same_bits(search(networks, x, codes, n_starts=1), graphed)


@pytest.mark.gpu
def test_on_a_gpu():
    pair = random_pair((1, 8, 8), torch.float32)
    x, starts = torch.rand(5, 1, 8, 8), torch.rand(2, LATENT_DIM)
    on_cpu = search(frozen(*pair), x, starts, n_steps=5)
    networks = frozen(*(inference_form(net, "cuda") for net in pair), device="cuda")
    on_gpu = search(networks, x.cuda(), starts.cuda(), n_steps=5)
    assert on_gpu.z.is_cuda
    torch.testing.assert_close(on_gpu.z.cpu(), on_cpu.z, rtol=1e-3, atol=1e-3)
