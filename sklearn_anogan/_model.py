# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a training has learned: one frozen record, and its plain form for files."""

import copy
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from skorch.history import History
from torch import nn

from ._images import Layout, make_layout, resized
from ._networks import BUILT_IN, Recognizer, encoder_class, sample_prior
from ._plain import check_finite, count, expect, for_json, take, take_under
from ._ruler import Ruler, expected_shapes, measured_size
from ._samples import n_numbers
from ._transformations import transformations
from ._value_range import ValueRange

#: Types of the user's numbers by the names that files have for them.
_NUMBER_TYPES = {
    str(dtype): dtype for dtype in (torch.float32, torch.float64, torch.float16)
}

#: Name -> class of the built-in generators and discriminators.
_NETWORKS = {
    network.__name__: network for built_in in BUILT_IN.values() for network in built_in
}


class UnknownNameError(ValueError):
    """A file names a class or a term that is not known here."""


@dataclass(frozen=True, eq=False)
class Model:
    """What a training has learned of normal images.

    Attributes
    ----------
    generator, discriminator : nn.Module
        Frozen, in evaluation mode, on the CPU, as all networks here.
    recognizer : Recognizer or None
        Head of the discriminator for its second task; None without the task.
    encoder : nn.Module or None
        None unless the search was to use one.
    latent_prior : {"uniform", "normal"}
    latent_dim, n_filters : int
    seed : int
        Seed of the training.
    layout : Layout
        Of the training images.
    value_range : ValueRange
        Of the training images, between the user's units and [-1, 1].
    history, encoder_history : skorch.history.History
        The epochs of both trainings. Without an encoder, the second is None.
    network_shape : tuple (height, width)
        Of the images that the networks see: smaller than the user's where these are
        large.
    samples : tensor of shape (n, d), float32
        Training images that are kept, as `described`.
    ruler : Ruler or None
        What normal images look like in each place; None where images have no places.
    problems : tuple of str
        What went wrong in the training, in words for the user.
    """

    generator: nn.Module
    discriminator: nn.Module
    recognizer: nn.Module | None
    latent_prior: str
    latent_dim: int
    n_filters: int
    seed: int
    layout: Layout
    value_range: ValueRange
    history: History
    network_shape: tuple
    samples: torch.Tensor
    ruler: Ruler | None = None
    problems: tuple = ()
    encoder: nn.Module | None = None
    encoder_history: History | None = None

    @property
    def networks(self):
        """Name -> network, for the networks that are not None."""
        networks = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "recognizer": self.recognizer,
            "encoder": self.encoder,
        }
        return {
            name: network for name, network in networks.items() if network is not None
        }

    @property
    def seen_chw(self):
        """Channels, height and width of the images that the networks see."""
        return (self.layout.chw[0], *self.network_shape)

    @property
    def seen_share(self):
        """Pixels that the networks see, as a share of the pixels of an image."""
        return prod(self.network_shape) / prod(self.layout.chw[1:])

    def check_layout(self, layout):
        """Refuse to continue with images of another shape."""
        if layout.chw != self.layout.chw:
            raise ValueError(
                "warm_start=True continues with images of (channels, height, width) = "
                f"{self.layout.chw}, but X has {layout.chw}. Use warm_start=False."
            )

    def continued_from(self, earlier):
        """The model with the epochs of an earlier one before its own."""
        rows = [*earlier.history, *self.history]
        rows = [row | {"epoch": n} for n, row in enumerate(rows, start=1)]
        return replace(self, history=History(rows))

    @property
    def search_seed(self):
        """Seed of the candidates that searches start from."""
        return int(np.random.RandomState(self.seed).randint(2**31 - 1))

    def sample_of(self, n_images, n):
        """Places of n images among ``n_images``, drawn at random, but always alike."""
        rng = np.random.RandomState(self.seed)
        rng.randint(2**31 - 1)  # `search_seed`
        return rng.permutation(n_images)[:n]

    def draw(self, n, seed):
        """Latent codes from the prior, float32 on the CPU."""
        rng = torch.Generator().manual_seed(seed)
        return sample_prior(n, self.latent_prior, self.latent_dim, rng=rng)

    @torch.no_grad()
    def generate(self, z):
        """Images of latent codes, in the layout and units of the training images."""
        x = torch.cat([self.generator(block) for block in z.split(64)])
        x = resized(x, self.layout.chw[1:])
        return self.layout.restore(self.value_range.to_user(x))

    def to_plain(self):
        """The record for JSON, and its tensors by name."""
        layout = self.layout
        plain = {
            "layout": {
                "image_shape": list(map(int, layout.image_shape)),
                "shape": list(map(int, layout.shape)),
                "chw": list(map(int, layout.chw)),
                "channels_first": bool(layout.channels_first),
                "is_tensor": layout.device is not None,
                "dtype": str(layout.dtype),
            },
            "generator": name_of(type(self.generator)),
            "discriminator": name_of(type(self.discriminator)),
            "has_recognizer": self.recognizer is not None,
            "has_encoder": self.encoder is not None,
            "latent_prior": self.latent_prior,
            "latent_dim": int(self.latent_dim),
            "n_filters": int(self.n_filters),
            "seed": int(self.seed),
            "network_shape": list(map(int, self.network_shape)),
            "has_ruler": self.ruler is not None,
            "history": for_json(self.history),
            "encoder_history": for_json(self.encoder_history or []),
            "problems": list(self.problems),
        }
        tensors = {
            "value_range.low": self.value_range.low,
            "value_range.high": self.value_range.high,
            "samples": self.samples,
        }
        if len(self.value_range.special):
            tensors["value_range.special"] = self.value_range.special
        for name, network in self.networks.items():
            for key, value in network.state_dict().items():
                tensors[f"{name}.{key}"] = value
        if self.ruler is not None:
            for key, value in self.ruler.state_dict().items():
                tensors[f"ruler.{key}"] = value
        return plain, tensors

    @classmethod
    def from_plain(cls, plain, tensors, classes):
        """The record from its plain form; takes its tensors out of ``tensors``.

        Parameters
        ----------
        plain : dict
        tensors : dict
        classes : dict
            "generator" and "discriminator" -> the user's class, or None.

        Raises
        ------
        UnknownNameError
            If a class of the user's own has not been given.
        Exception
            Of any kind, if the plain form does not fit together.
        """
        layout = _layout_from_plain(plain["layout"])
        n_channels = layout.chw[0]
        value_range = _value_range_from_plain(tensors, n_channels)
        latent_dim, n_filters = count(plain["latent_dim"]), count(plain["n_filters"])
        # Before the networks are built: a file must not make us build huge ones.
        n_weights = sum(tensor.numel() for tensor in tensors.values())
        if max(n_filters, latent_dim) > n_weights:
            raise ValueError("its networks should be larger than it is")
        latent_prior = str(plain["latent_prior"])
        network_shape = tuple(map(count, plain["network_shape"]))
        _, height, width = layout.chw
        expect("the length of network_shape", len(network_shape), 2)
        if network_shape[0] > height or network_shape[1] > width:
            raise ValueError("its networks see larger images than there are")
        seen_chw = (n_channels, *network_shape)
        return cls(
            **_networks_from_plain(
                plain, tensors, classes, seen_chw, latent_prior == "uniform"
            ),
            network_shape=network_shape,
            samples=_samples_from_plain(tensors, seen_chw),
            ruler=_ruler_from_plain(tensors, layout) if plain["has_ruler"] else None,
            latent_prior=latent_prior,
            latent_dim=latent_dim,
            n_filters=n_filters,
            seed=count(plain["seed"], least=0),
            layout=layout,
            value_range=value_range,
            history=_history_from_plain(plain["history"]),
            encoder_history=_history_from_plain(plain["encoder_history"]) or None,
            problems=tuple(map(str, plain["problems"])),
        )


def frozen(network):
    """A copy of a network on the CPU that is not trained any more."""
    return copy.deepcopy(network).cpu().eval().requires_grad_(False)


def name_of(cls):
    """The name by which a file knows a network class."""
    if _NETWORKS.get(cls.__name__) is cls:
        return cls.__name__
    return f"{cls.__module__}.{cls.__qualname__}"


def class_of(name, given):
    """The network class of this name: ours, or the class given.

    Raises
    ------
    UnknownNameError
        If the class is not ours and none is given.
    """
    if name in _NETWORKS:
        return _NETWORKS[name]
    if given is None:
        raise UnknownNameError(
            f"The detector has networks of the class {name}, which load does not look "
            "for by itself: pass the class as generator or discriminator."
        )
    return given


def _layout_from_plain(plain):
    image_shape, shape, chw = (
        tuple(map(count, plain[name])) for name in ("image_shape", "shape", "chw")
    )
    (n_channels, height, width) = chw
    n_values = n_channels * height * width
    for found in (image_shape, shape):
        expect("numbers in an image", np.prod(found, dtype=object), n_values)
    return make_layout(
        image_shape,
        shape=shape,
        chw=chw,
        channels_first=bool(plain["channels_first"]),
        device=torch.device("cpu") if plain["is_tensor"] else None,
        dtype=_NUMBER_TYPES[plain["dtype"]],
    )


def _networks_from_plain(plain, tensors, classes, chw, is_bounded):
    """Name -> network, for the networks that the plain form names."""
    n_channels, height, width = chw
    of_images = {
        "n_channels": n_channels,
        "height": height,
        "width": width,
        "n_filters": plain["n_filters"],
    }
    of_codes = {"latent_dim": plain["latent_dim"]}
    G, D = (
        class_of(plain[name], classes[name]) for name in ("generator", "discriminator")
    )

    def fill(name, build, is_ours=True):
        return _fill(build, is_ours, take_under(tensors, f"{name}."), name)

    networks = {
        "generator": fill(
            "generator",
            lambda: G(**of_codes, **of_images),
            plain["generator"] in _NETWORKS,
        ),
        "discriminator": fill(
            "discriminator",
            lambda: D(**of_images),
            plain["discriminator"] in _NETWORKS,
        ),
        "recognizer": None,
    }
    if plain["has_recognizer"]:
        n_units, n_features = tensors["recognizer.layers.1.weight"].shape
        networks["recognizer"] = fill(
            "recognizer",
            lambda: Recognizer((n_features,), transformations(*chw), n_units),
        )
    if plain["has_encoder"]:
        E = encoder_class(height, width)
        networks["encoder"] = fill(
            "encoder", lambda: E(**of_codes, **of_images, is_bounded=is_bounded)
        )
    return networks


def _value_range_from_plain(tensors, n_channels):
    low, high = (
        take(tensors, f"value_range.{end}", (n_channels, 1, 1))
        for end in ("low", "high")
    )
    if "value_range.special" not in tensors:
        return ValueRange(low, high)
    special = take(tensors, "value_range.special", (None, 3))
    is_channel = np.isin(special[:, 0], range(n_channels))
    expect("columns with special values", is_channel.all(), True)
    return ValueRange(low, high, special)


def _samples_from_plain(tensors, chw):
    samples = tensors.pop("samples")
    expect("the type of samples", samples.dtype, torch.float32)
    expect("the numbers of a sample", samples.shape[1:], (n_numbers(chw),))
    check_finite("samples", samples)
    return samples.clone()


def _ruler_from_plain(tensors, layout):
    n_channels, height, width = layout.chw
    found = take_under(tensors, "ruler.")
    expected = expected_shapes(found, n_channels, measured_size(height, width))
    expect("the ruler's tensors", {*found}, {*expected})
    for name, tensor in found.items():
        expect(f"the type of ruler.{name}", tensor.dtype, torch.float32)
        expect(f"the shape of ruler.{name}", tuple(tensor.shape), expected[name])
        check_finite(f"ruler.{name}", tensor)
    return Ruler({name: tensor.clone() for name, tensor in found.items()})


def _fill(build, is_ours, weights, name):
    """A network with these weights.

    Our own networks are built without memory for weights. Whatever size the file
    claims, they take no more than the arrays that are really there. A user's network
    may hold more than weights, and is built as usual.
    """
    with torch.device("meta") if is_ours else nullcontext():
        network = build()
    own = network.state_dict()
    for key, value in weights.items():
        if key in own:
            expect(f"the type of {name}.{key}", value.dtype, own[key].dtype)
            expect(f"the shape of {name}.{key}", value.shape, own[key].shape)
        check_finite(f"{name}.{key}", value)
    network.load_state_dict(weights, assign=is_ours)
    return frozen(network)  # a copy: arrays of a file lie in memory as in the file


def _history_from_plain(rows):
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("its history has no rows")
    return History(rows)
