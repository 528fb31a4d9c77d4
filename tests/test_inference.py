import pytest
import torch
from torch import nn

from sklearn_anogan._inference import (
    CPU_BATCHES,
    AlignedLinear,
    find_exact_batches,
    in_batches,
    inference_form,
    intraop_threads,
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
    assert torch.equal(in_batches(network, x, CPU_BATCHES), 2 * x)
    assert set(sizes) <= set(CPU_BATCHES)
    assert sum(sizes) < n + 64


class Rounds(nn.Module):
    """Generator and discriminator that round differently where ``is_other`` says so."""

    def __init__(self, is_other):
        super().__init__()
        self.is_other = is_other

    def forward(self, z):
        factor = torch.where(self.is_other(z), 1 + 1e-6, 1.0).to(z)
        return z[:, :, None, None] ** 2 * factor

    def features(self, x):
        return x[:, :1]


@pytest.mark.parametrize(
    "is_other, wanted",
    [
        (lambda z: torch.tensor(False), (None, (8, 16, 32, 64))),
        (lambda z: torch.tensor(len(z) in (8, 32)), (None, (16, 64))),
        # Only the first row, with four threads more than with one: all go with one.
        (lambda z: torch.tensor(torch.get_num_threads() > 1), (1, (8, 16, 32, 64))),
        # A row's place matters: nothing helps.
        (lambda z: torch.arange(len(z))[:, None, None, None] == 0, (1, (64,))),
    ],
)
def test_batches_that_round_alike(is_other, wanted):
    network = Rounds(is_other)
    with intraop_threads(4):
        assert find_exact_batches(network, network, torch.zeros(1, 5)) == wanted
        assert torch.get_num_threads() == 4


def test_threads_are_put_back():
    before = torch.get_num_threads()

    def fail():
        with intraop_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before
