import pytest
import torch
from torch import nn

from sklearn_anogan._networks import (
    BUILT_IN,
    DenseDiscriminator,
    DenseEncoder,
    DenseGenerator,
    Discriminator,
    Encoder,
    Generator,
    encoder_class,
    sample_prior,
)

SHAPES = [
    (1, 1, 1),
    (3, 1, 1),
    (1, 1, 2),
    (1, 2, 3),
    (2, 1, 17),
    (1, 8, 8),
    (5, 5, 5),
    (1, 28, 28),
    (3, 33, 18),
    (1, 64, 64),
    (4, 100, 7),
]
PAIRS = [(Generator, Discriminator), (DenseGenerator, DenseDiscriminator)]
ENCODERS = [Encoder, DenseEncoder]


def test_built_in_networks():
    assert BUILT_IN == {"images": PAIRS[0], "rows": PAIRS[1]}
    assert encoder_class(1, 2) is Encoder
    assert encoder_class(1, 1) is DenseEncoder


def build(pair, shape, latent_dim=6, n_filters=4):
    n_channels, height, width = shape
    sizes = {"n_channels": n_channels, "height": height, "width": width}
    generator = pair[0](latent_dim=latent_dim, n_filters=n_filters, **sizes)
    return generator, pair[1](n_filters=n_filters, **sizes)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(pair, shape):
    """Every size is generated exactly, and told apart by one logit for each image."""
    G, D = build(pair, shape)
    x = G(torch.randn(3, 6))
    assert x.shape == (3, *shape)
    assert D(x).shape == (3,)
    assert len(D.features(x)) == 3


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pixel_matters(pair, shape):
    """The discriminator sees all of the image, the generator draws all of it."""
    torch.manual_seed(0)
    G, D = build(pair, shape)
    x = torch.randn(4, *shape, requires_grad=True)
    D.eval()(x).sum().backward()
    assert (x.grad != 0).any(0).all()
    drawn = G.eval()(torch.randn(20, 6))
    assert (drawn.std(0) > 0).all()


@pytest.mark.parametrize("pair", PAIRS)
def test_output_range(pair):
    """Generated images lie in [-1, 1], however large the weights."""
    G, _ = build(pair, (2, 9, 9))
    for parameter in G.parameters():
        parameter.data *= 100
    x = G(torch.randn(50, 6))
    assert x.abs().max() <= 1
    assert x.abs().max() > 0.9


@pytest.mark.parametrize("pair", PAIRS)
def test_features_lie_on_the_way_to_the_logit(pair):
    """Features are the discriminator's own intermediate layer, not its logit."""
    _, D = build(pair, (1, 12, 12))
    D.eval()
    x = torch.randn(3, 1, 12, 12)
    seen = []
    D.features.register_forward_hook(lambda module, args, output: seen.append(output))
    logits = D(x)
    assert torch.equal(seen[0], D.features(x))
    assert seen[0][0].numel() > 1
    assert torch.equal(D.head(seen[0]).squeeze(1), logits)


def test_dcgan_recipe():
    """Batch norm, ReLU and tanh in G; LeakyReLU and strides in D, as in the paper."""
    G, D = build(PAIRS[0], (1, 28, 28))
    kinds = [type(layer) for layer in G.layers]
    assert kinds[-2:] == [nn.ConvTranspose2d, nn.Tanh]
    assert kinds.count(nn.BatchNorm2d) == kinds.count(nn.ReLU) == 3
    layers = [layer for layer in D.modules() if not list(layer.children())]
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [conv.stride for conv in convs] == [(2, 2)] * 3
    assert [conv.out_channels for conv in convs] == [4, 8, 16]
    slopes = [x.negative_slope for x in layers if isinstance(x, nn.LeakyReLU)]
    assert slopes == [0.2] * 3
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == 2


def build_encoder(encoder, shape, is_bounded=True):
    n_channels, height, width = shape
    return encoder(
        latent_dim=6,
        n_channels=n_channels,
        height=height,
        width=width,
        n_filters=4,
        is_bounded=is_bounded,
    )


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_codes(encoder, shape):
    """Every image gets a code, and every pixel matters for it."""
    torch.manual_seed(0)
    E = build_encoder(encoder, shape).eval()
    x = torch.randn(4, *shape, requires_grad=True)
    z = E(x)
    assert z.shape == (4, 6)
    z.sum().backward()
    assert (x.grad != 0).any(0).all()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("is_bounded", [True, False])
def test_range_of_codes(encoder, is_bounded):
    E = build_encoder(encoder, (2, 9, 9), is_bounded).eval()
    z = E(1000 * torch.randn(50, 2, 9, 9))
    assert (z.abs().max() <= 1) == is_bounded
    assert z.abs().max() > 0.9


@pytest.mark.parametrize(
    "latent_prior, mean_square, largest", [("uniform", 1 / 3, 1), ("normal", 1, 6)]
)
def test_prior(latent_prior, mean_square, largest):
    rng = torch.Generator().manual_seed(0)
    z = sample_prior(10_000, latent_prior, 3, rng=rng)
    assert z.shape == (10_000, 3)
    assert z.dtype == torch.float32
    assert abs(z.mean()) < 0.02
    assert abs(z.square().mean() - mean_square) < 0.02
    assert 0.99 * min(largest, 3) < z.abs().max() <= largest
