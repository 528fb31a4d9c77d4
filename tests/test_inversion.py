from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_anogan._inversion import (
    BATCH_SIZES,
    CHECK_EVERY,
    _begin,
    _learning_rates,
    _step,
    inference_form,
    invert,
)
from sklearn_anogan._losses import anogan_loss, discrimination_loss, residual_loss
from sklearn_anogan._networks import (
    DenseDiscriminator,
    DenseGenerator,
    Discriminator,
    Generator,
)

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


def search(G, D, x, starts, **changes):
    settings = {"n_steps": 30, "lr": 0.05, "tol": 0, "discrimination_weight": 0.1}
    return invert(G, D, x, starts, **(settings | changes))


def search_one_by_one(G, D, image, starts, n_steps, lr, w):
    """The paper's search of one image, in the plainest way there is."""
    best = (np.inf, None)
    for start in starts:
        z = start[None].clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=lr)
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
@pytest.mark.parametrize("n_starts", [1, 2])
def test_an_image_never_sees_the_others(shape, pair, n_starts):
    """The same bits alone, in any block and at any place of it, in float32."""
    G, D = networks(shape, torch.float32, pair)
    x = torch.rand(BATCH_SIZES[-1], *shape) * 2 - 1
    starts = torch.rand(n_starts, LATENT_DIM) * 2 - 1
    together = search(G, D, x, starts)
    for images in [
        torch.arange(5),
        torch.tensor([7]),
        torch.arange(BATCH_SIZES[-1]).flip(0),
        torch.randperm(BATCH_SIZES[-1]),
        torch.tensor([31, 3, 3, 3, 11]),
    ]:
        found = search(G, D, x[images], starts)
        for answer, reference in zip(found, together, strict=True):
            assert torch.equal(answer, reference[images])


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
    starts = torch.rand(1, LATENT_DIM) * 2 - 1
    calls = []
    G.register_forward_hook(lambda *args: calls.append(1))
    search(G, D, G(starts), starts, n_steps=500, tol=0.01)
    assert len(calls) < 3 * CHECK_EVERY


class Unusual(nn.Module):
    """Uses its linear layers in ways that only a real linear layer allows."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(10, 7), nn.Linear(7, 3)
        self.attention = nn.TransformerEncoderLayer(3, 1, 5, batch_first=True)
        self.first.register_forward_hook(lambda module, args, output: 3 * output)

    def forward(self, x):
        x = self.first(x)[:, : self.second.in_features]
        x = nn.functional.linear(x, self.second.weight, self.second.bias)
        return self.attention(x[:, None])


def test_inference_form_of_unusual_networks():
    torch.manual_seed(0)
    network, x = Unusual().eval(), torch.randn(4, 10)
    torch.testing.assert_close(inference_form(network, "cpu")(x), network(x))


def test_inference_form():
    """A frozen copy that computes what the network computes, without batch norms."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(10, 7),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Linear(7, 12, bias=False),
        nn.Unflatten(1, (3, 2, 2)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Conv2d(4, 2, 2, bias=False),
        nn.BatchNorm2d(2, affine=False),
        nn.Conv2d(2, 2, 1),
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.Conv2d(2, 4, 1, groups=2),
        nn.BatchNorm2d(4),
    ).double()
    network[1].weight.data.uniform_(1, 2)
    network[5][1].bias.data.uniform_(1, 2)
    for _ in range(3):
        network(3 + 2 * torch.randn(20, 10, dtype=torch.float64))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    form = inference_form(network, "cpu")
    x = torch.randn(4, 10, dtype=torch.float64)
    torch.testing.assert_close(form(x), network.eval()(x))
    n_norms = [
        sum("BatchNorm" in type(module).__name__ for module in net.modules())
        for net in (network, form)
    ]
    assert n_norms == [5, 2]  # those over batch statistics or groups cannot be folded
    assert not form.training
    assert not any(parameter.requires_grad for parameter in form.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_steps_never_wait_for_the_host():
    """On the meta device, reading a value or mixing in the CPU's tensors raises."""
    G, D = (network.to("meta") for network in networks((1, 8, 8), torch.float32))
    x = torch.empty(64, 1, 8, 8, device="meta")
    f_x = D.features(x)

    def loss_of(z):
        G_z = G(z)
        return anogan_loss(
            residual_loss(x, G_z), discrimination_loss(f_x, D.features(G_z)), 0.1
        )

    starts = torch.empty(2, LATENT_DIM, device="meta")
    searches = _begin(starts, torch.arange(64, device="meta"))
    rates = _learning_rates(3, 0.1).to(x)
    for _ in range(3):
        searches = _step(loss_of, searches, rates)
    assert {column.device.type for column in searches} == {"meta"}
    assert searches.z.shape == (64, LATENT_DIM)


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
    starts = torch.zeros(1, LATENT_DIM)
    with pytest.raises(FloatingPointError, match="Generator or Discriminator answered"):
        search(G, D, torch.rand(3, 1, 8, 8), starts)


def test_works_inside_no_grad():
    G, D = networks((1, 8, 8), torch.float32)
    x, starts = torch.rand(2, 1, 8, 8), torch.rand(1, LATENT_DIM)
    with torch.no_grad():
        inside = search(G, D, x, starts)
    assert torch.equal(inside.z, search(G, D, x, starts).z)


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
