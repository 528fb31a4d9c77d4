import pytest
import torch
from torch import nn

from sklearn_anogan._devices import intraop_threads
from sklearn_anogan._inference import (
    CPU_BATCHES,
    AlignedLinear,
    FrozenNetworks,
    find_exact_batches,
    inference_form,
)


def frozen(
    generator, discriminator, encoder=None, ruler=None, shape=(1, 1), **measured
):
    return FrozenNetworks(
        generator,
        discriminator,
        encoder,
        recognizer=None,
        ruler=ruler,
        latent_dim=5,
        network_shape=shape,
        device=torch.device("cpu"),
        **measured,
    )


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


def test_aligned_linear_of_a_matrix():
    weight, bias = torch.randn(7, 5), torch.randn(7)
    x = torch.randn(3, 5)
    torch.testing.assert_close(AlignedLinear.of(weight)(x), x @ weight.T)
    torch.testing.assert_close(AlignedLinear.of(weight, bias)(x), x @ weight.T + bias)


@pytest.mark.parametrize("n", [1, 8, 9, 64, 65, 200])
def test_in_batches(n):
    sizes = []

    def network(x):
        sizes.append(len(x))
        return 2 * x

    x = torch.randn(n, 3)
    networks = frozen(network, network, sizes=CPU_BATCHES)
    assert torch.equal(networks.in_batches(network, x), 2 * x)
    assert set(sizes) <= set(CPU_BATCHES)
    assert sum(sizes) < n + 64


class Rounds(nn.Module):
    """Networks that round differently where ``is_other(n, place)`` says so.

    Only in the answer named, and never with a single thread if ``with_threads``.
    """

    def __init__(self, is_other, answer="images", with_threads=False):
        super().__init__()
        self.is_other, self.answer, self.with_threads = is_other, answer, with_threads

    def round(self, x, answer):
        place = torch.arange(len(x))
        other = torch.as_tensor(self.is_other(len(x), place)).expand(len(x))
        if answer != self.answer or (
            self.with_threads and torch.get_num_threads() == 1
        ):
            return x
        return x * torch.where(other, 1 + 1e-6, 1.0)[:, None, None, None].detach()

    def forward(self, z):
        return self.round(z[:, :, None, None] ** 2, "images")

    def features(self, x):
        return self.round(x[:, :1], "features")

    def encode(self, x):
        return self.round(x, "codes")

    def frozen(self):
        return frozen(self, self, self.encode)


ALL = (8, 16, 32, 64)


@pytest.mark.parametrize("answer", ["images", "features", "codes"])
@pytest.mark.parametrize(
    "is_other, with_threads, wanted",
    [
        (lambda n, place: False, False, (4, ALL)),
        (lambda n, place: n in (16, 64), False, (4, (8, 32))),
        # With one thread all sizes round alike, with several none.
        (lambda n, place: True, True, (1, ALL)),
        # A row's place matters: nothing helps.
        (lambda n, place: place == 0, False, (1, (8,))),
    ],
)
def test_batches_that_round_alike(is_other, with_threads, answer, wanted):
    networks = Rounds(is_other, answer, with_threads).frozen()
    with intraop_threads(4):
        assert find_exact_batches(networks, 64) == wanted
        assert torch.get_num_threads() == 4
        networks = networks.measured()
    assert (networks.n_threads, networks.sizes) == wanted
    # Whatever the number of threads is later, the networks get the number measured.
    for n_threads in (1, 3):
        with intraop_threads(n_threads):
            with networks.rounding_alike():
                assert torch.get_num_threads() == wanted[0]
            assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize(
    "largest, wanted", [(64, (4, ALL)), (31, (4, (8, 16))), (4, (1, (4,)))]
)
def test_batches_that_fit(largest, wanted):
    networks = Rounds(lambda n, place: False).frozen()
    with intraop_threads(4):
        assert find_exact_batches(networks, largest) == wanted
        # The same of a larger batch that was measured before.
        assert networks.measured().limited_to(largest).sizes == wanted[1]


class StubRuler(nn.Module):
    """Distances that are the images themselves; tells who called it."""

    size = (4, 6)

    def forward(self, x):
        self.called_with = (tuple(x.shape), torch.get_num_threads())
        assert not torch.is_grad_enabled()
        return x[:, 0, ::2, ::2], x[:, 0]


def test_images_of_any_size_are_seen_and_measured():
    """Each part of the model gets the size that it has learned from."""
    ruler = StubRuler()
    networks = frozen(None, None, ruler=ruler, shape=(2, 3))
    x = torch.rand(5, 3, 8, 12)
    torch.testing.assert_close(
        networks.seen(x), x.reshape(5, 3, 2, 4, 3, 4).mean((3, 5))
    )
    with intraop_threads(3):
        coarse, fine = networks.distances(x)
        assert torch.get_num_threads() == 3
    assert ruler.called_with == ((5, 3, 4, 6), 1)
    torch.testing.assert_close(fine, x.reshape(5, 3, 4, 2, 6, 2).mean((3, 5))[:, 0])
    assert coarse.shape == (5, 2, 3)
    small = x[:, :, :2, :3]
    assert networks.seen(small) is small
