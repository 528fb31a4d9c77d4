# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Generator, discriminator and encoder: DCGAN for images of any size, dense for rows.

Generators and discriminators keep this contract, and a user's own classes have to::

    generator = Generator(
        latent_dim=..., n_channels=..., height=..., width=..., n_filters=...
    )
    generator(z)                  # (n, latent_dim) -> (n, n_channels, height, width)

    discriminator = Discriminator(n_channels=..., height=..., width=..., n_filters=...)
    discriminator(x)              # (n, n_channels, height, width) -> (n,) logits
    discriminator.features(x)     # an intermediate layer, (n, ...) of any shape

Images go in and come out in [-1, 1]. A row of numbers is an image of one pixel with
one channel for each feature, so ``height`` and ``width`` are 1 for rows.

References
----------
A. Radford, L. Metz, S. Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks", 2016, :doi:`10.48550/arXiv.1511.06434`
"""

import copy
import inspect
from math import prod

import torch
from torch import nn


class Generator(nn.Module):
    """DCGAN generator: doubles the image in every layer, up to its exact size.

    Parameters
    ----------
    latent_dim : int
        Size of the latent code z.
    n_channels, height, width : int
        Shape of the generated images.
    n_filters : int
        Channels of the layer next to the image; they double with every layer inwards,
        up to eight times this number.
    """

    is_graphable = True  # its kernels can be recorded as a CUDA graph

    def __init__(self, latent_dim, n_channels, height, width, n_filters):
        super().__init__()
        sizes = _sizes_inwards(height, width)
        widths = [n_channels, *_widths(n_filters, len(sizes) - 1)]
        h, w = sizes[-1]
        layers = [
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, widths[-1], (h, w), bias=False),
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
        ]
        for i in range(len(sizes) - 2, 0, -1):
            layers += [
                nn.ConvTranspose2d(
                    widths[i + 1], widths[i], **_halving(sizes[i]), bias=False
                ),
                nn.BatchNorm2d(widths[i]),
                nn.ReLU(),
            ]
        layers += [
            nn.ConvTranspose2d(widths[1], n_channels, **_halving(sizes[0])),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers)
        self.apply(_init_dcgan)

    def forward(self, z):
        return self.layers(z)  # (n, latent_dim) -> (n, n_channels, height, width)


class Discriminator(nn.Module):
    """DCGAN discriminator: halves the image in every layer, then one logit.

    ``features`` ends after the last hidden layer but one.

    Parameters
    ----------
    n_channels, height, width : int
        Shape of the images.
    n_filters : int
        Channels of the layer next to the image; they double with every layer inwards,
        up to eight times this number.
    """

    is_graphable = True  # its kernels can be recorded as a CUDA graph

    def __init__(self, n_channels, height, width, n_filters):
        super().__init__()
        sizes = _sizes_inwards(height, width)
        widths = [n_channels, *_widths(n_filters, len(sizes) - 1)]
        blocks = []
        for i, size in enumerate(sizes[:-1]):
            # No batch norm next to the image, as in the DCGAN paper: it would hide the
            # image's brightness and contrast from the discriminator.
            norm = [] if i == 0 else [nn.BatchNorm2d(widths[i + 1])]
            conv = nn.Conv2d(widths[i], widths[i + 1], **_halving(size), bias=not norm)
            blocks.append(nn.Sequential(conv, *norm, nn.LeakyReLU(0.2)))
        h, w = sizes[-1]
        self.features = nn.Sequential(*blocks[:-1])
        self.head = nn.Sequential(
            blocks[-1], nn.Flatten(), nn.Linear(widths[-1] * h * w, 1)
        )
        self.apply(_init_dcgan)

    def forward(self, x):
        return self.head(self.features(x)).squeeze(1)  # (n, C, H, W) -> (n,)


class Encoder(nn.Module):
    """Encoder of images: built like `Discriminator`, but it ends in a latent code.

    Parameters
    ----------
    latent_dim : int
        Size of the latent code z.
    n_channels, height, width : int
        Shape of the images.
    n_filters : int
        As of `Discriminator`.
    is_bounded : bool
        Whether codes lie in [-1, 1].
    """

    def __init__(self, latent_dim, n_channels, height, width, n_filters, is_bounded):
        super().__init__()
        sizes = _sizes_inwards(height, width)
        widths = [n_channels, *_widths(n_filters, len(sizes) - 1)]
        layers = []
        for i, size in enumerate(sizes[:-1]):
            layers += [
                nn.Conv2d(widths[i], widths[i + 1], **_halving(size), bias=False),
                nn.BatchNorm2d(widths[i + 1]),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Flatten())
        layers += _to_code(widths[-1] * prod(sizes[-1]), latent_dim, is_bounded)
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)  # (n, C, H, W) -> (n, latent_dim)


class Recognizer(nn.Module):
    """Tells from a discriminator's features how an image was transformed.

    Parameters
    ----------
    features_shape : tuple
        Shape of the features of one image.
    transformations : list of nn.Module
        The transformations to tell apart, see `_transformations`.
    n_units : int
        Units of the hidden layer.
    """

    def __init__(self, features_shape, transformations, n_units=256):
        super().__init__()
        self.transformations = nn.ModuleList(transformations)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(features_shape), n_units),
            nn.LeakyReLU(0.2),
            nn.Linear(n_units, len(transformations)),
        )

    def forward(self, features):
        return self.layers(features)  # (n, ...) -> (n, n_transformations) logits


class DenseGenerator(nn.Module):
    """Generator for rows: two hidden layers of ``4 * n_filters`` units.

    Parameters
    ----------
    latent_dim : int
        Size of the latent code z.
    n_channels, height, width : int
        Number of features, 1, 1.
    n_filters : int
        A quarter of the units in each hidden layer.
    """

    is_graphable = True  # its kernels can be recorded as a CUDA graph

    def __init__(self, latent_dim, n_channels, height, width, n_filters):
        super().__init__()
        n_units = 4 * n_filters
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, n_units, bias=False),
            nn.BatchNorm1d(n_units),
            nn.ReLU(),
            nn.Linear(n_units, n_units, bias=False),
            nn.BatchNorm1d(n_units),
            nn.ReLU(),
            nn.Linear(n_units, n_channels * height * width),
            nn.Tanh(),
            nn.Unflatten(1, (n_channels, height, width)),
        )

    def forward(self, z):
        return self.layers(z)  # (n, latent_dim) -> (n, n_features, 1, 1)


class DenseDiscriminator(nn.Module):
    """Discriminator for rows: two hidden layers of ``4 * n_filters`` units.

    ``features`` is the first hidden layer.

    Parameters
    ----------
    n_channels, height, width : int
        Number of features, 1, 1.
    n_filters : int
        A quarter of the units in each hidden layer.
    """

    is_graphable = True  # its kernels can be recorded as a CUDA graph

    def __init__(self, n_channels, height, width, n_filters):
        super().__init__()
        n_units = 4 * n_filters
        self.features = nn.Sequential(
            nn.Flatten(),
            nn.Linear(n_channels * height * width, n_units),
            nn.LeakyReLU(0.2),
        )
        self.head = nn.Sequential(
            nn.Linear(n_units, n_units), nn.LeakyReLU(0.2), nn.Linear(n_units, 1)
        )

    def forward(self, x):
        return self.head(self.features(x)).squeeze(1)  # (n, n_features, 1, 1) -> (n,)


class DenseEncoder(nn.Module):
    """Encoder of rows: two hidden layers of ``4 * n_filters`` units, then a code.

    Parameters
    ----------
    latent_dim : int
        Size of the latent code z.
    n_channels, height, width : int
        Number of features, 1, 1.
    n_filters : int
        A quarter of the units in each hidden layer.
    is_bounded : bool
        Whether codes lie in [-1, 1].
    """

    def __init__(self, latent_dim, n_channels, height, width, n_filters, is_bounded):
        super().__init__()
        n_in, n_units = n_channels * height * width, 4 * n_filters
        layers = [nn.Flatten()]
        for n_inputs in (n_in, n_units):
            layers += [
                nn.Linear(n_inputs, n_units, bias=False),
                nn.BatchNorm1d(n_units),
                nn.LeakyReLU(0.2),
            ]
        layers += _to_code(n_units, latent_dim, is_bounded)
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)  # (n, n_features, 1, 1) -> (n, latent_dim)


#: Kind of the data, see `_images.Layout` -> the built-in generator and discriminator.
BUILT_IN = {
    "images": (Generator, Discriminator),
    "rows": (DenseGenerator, DenseDiscriminator),
}


def encoder_class(height, width):
    """The class of encoders: a single pixel has no neighbours to convolve with."""
    return DenseEncoder if height == width == 1 else Encoder


def sample_prior(n, latent_prior, latent_dim, *, device="cpu", rng=None):
    """Draw n latent codes from U(-1, 1) or N(0, 1), float32.

    ``rng`` is a torch.Generator. None means torch's own random state.
    """
    z = torch.empty(n, latent_dim, device=device, dtype=torch.float32)
    if latent_prior == "uniform":
        return z.uniform_(-1, 1, generator=rng)
    return z.normal_(generator=rng)


def check_network_class(name, network, keywords):
    """Check that a user's class can be called with the keywords of the contract."""
    try:
        if not issubclass(network, torch.nn.Module):
            raise TypeError("it is none")
        inspect.signature(network).bind(**dict.fromkeys(keywords))
    except TypeError as error:
        raise ValueError(
            f"{name}={network.__name__} must be a torch.nn.Module class that takes the "
            f"keywords {', '.join(keywords)}: {error}."
        ) from error


def check_networks(G, D, z, shape):
    """Hold a generator and a discriminator to the contract, with a few codes z.

    Returns
    -------
    features_shape : tuple
        Of the discriminator's features for one image.

    Raises
    ------
    ValueError
        If they break it.
    """
    for network in (G, D):
        if not any(p.requires_grad for p in network.parameters()):
            raise ValueError(f"{type(network).__name__} has no parameters to train.")
    if not callable(getattr(D, "features", None)):
        raise ValueError(
            f"{type(D).__name__} needs a method or module 'features' that turns images "
            "(n, channels, height, width) into an intermediate layer (n, ...)."
        )
    n, x = len(z), G.eval()(z)
    D.eval()
    _check_answer(f"{type(G).__name__}.forward", z, x, (n, *shape))
    features = D.features(x)
    _check_answer(f"{type(D).__name__}.features", x, features, (n, ...))
    _check_answer(f"{type(D).__name__}.forward", x, D(x), (n,))
    for network in (G, D):
        try:
            copy.deepcopy(network)
        except RuntimeError as error:
            raise ValueError(
                f"{type(network).__name__} cannot be copied once it has been used: "
                f"{str(error).splitlines()[0]} Compute such weights with "
                "torch.nn.utils.parametrize; for spectral norm there is "
                "torch.nn.utils.parametrizations.spectral_norm."
            ) from error
    return tuple(features.shape[1:])


def _check_answer(name, given, answer, wanted):
    """Check that a network answers with finite numbers of the shape wanted."""
    if not isinstance(answer, torch.Tensor):
        found = f"a {type(answer).__name__}"
    elif wanted not in (tuple(answer.shape), (*answer.shape[:1], ...)) or (
        wanted[-1] is ... and answer.ndim == 1
    ):
        found = f"a tensor of shape {tuple(answer.shape)}"
    elif not answer.isfinite().all():
        found = "NaN or infinity"
    else:
        return
    raise ValueError(
        f"{name} must turn a tensor of shape {tuple(given.shape)} into finite numbers "
        f"of shape {wanted}; it returned {found}."
    )


def _sizes_inwards(height, width):
    """Heights and widths of the feature maps from the image inwards.

    Each size is half of the size before, rounded up, until both sides are at most 4.
    There are at least two halvings, so that a discriminator has a layer between the
    image and its last layer.
    """
    sizes = [(height, width)]
    while len(sizes) < 3 or max(sizes[-1]) > 4:
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    return sizes


def _to_code(n_in, latent_dim, is_bounded):
    """The last layers of an encoder."""
    bound = [nn.Tanh()] if is_bounded else []
    return [nn.Linear(n_in, latent_dim), *bound]


def _widths(n_filters, n_layers):
    """Channels of the hidden layers from the image inwards."""
    return [n_filters * min(2**i, 8) for i in range(n_layers)]


def _halving(size):
    """Convolution that takes ``size`` to its half, rounded up, on both axes.

    A transposed convolution with the same arguments takes the half back to ``size``
    exactly, so that no image is ever padded or cropped: an even side needs a kernel of
    4, an odd one a kernel of 3, and a side of 1 stays as it is.
    """
    per_side = [
        (1, 1, 0) if n == 1 else (4, 2, 1) if n % 2 == 0 else (3, 2, 1) for n in size
    ]
    kernel_size, stride, padding = zip(*per_side, strict=True)
    return {"kernel_size": kernel_size, "stride": stride, "padding": padding}


def _init_dcgan(module):
    """Weights as in the DCGAN paper: N(0, 0.02), batch-norm scales N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
