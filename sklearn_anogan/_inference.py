# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""A model's networks on one device, in the form and the batches that round alike.

The same image has to get the same bits alone and in any batch. Linear algebra libraries
add up numbers in an order that depends on the shape of the batch, on where a row starts
in memory, and sometimes on the number of threads. Therefore networks only get batches
of a few fixed sizes, which were seen to round alike, and the rows of their matrices are
aligned.
"""

import copy
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import linear, pad
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ._devices import exact_convolutions, free_memory, intraop_threads
from ._images import resized

#: Sizes of batches. The small ones are for the last images of a block. A GPU has a
#: single size: a smaller batch would not fill it, and its libraries would round it
#: differently.
CPU_BATCHES = (8, 16, 32, 64)
GPU_BATCHES = (512,)

#: Share of the free memory that the searches of all workers may take.
_MEMORY_SHARE = 0.5

#: Columns of a padded matrix come in multiples of this, 64 bytes of float32.
_ALIGNMENT = 16


@dataclass(frozen=True, eq=False)
class FrozenNetworks:
    """A model's networks on one device, and how to call them so that they round alike.

    Attributes
    ----------
    generator, discriminator, encoder, recognizer : nn.Module or None
        As `inference_form` makes them. None where the model has none.
    ruler : Ruler or None
    latent_dim : int
        Size of the latent code.
    network_shape : tuple (height, width)
        Of the images that the networks see.
    device : torch.device
    n_threads : int or None
        Threads of the CPU to call the networks with; None on other devices.
    sizes : tuple of int
        Sizes of batches, ascending.
    samples : tensor of shape (m, d) or None
        Normal images that the model keeps, on the CPU.
    """

    generator: nn.Module
    discriminator: nn.Module
    encoder: nn.Module | None
    recognizer: nn.Module | None
    ruler: nn.Module | None
    latent_dim: int
    network_shape: tuple
    device: torch.device
    n_threads: int | None = None
    sizes: tuple = ()
    samples: torch.Tensor | None = None

    @classmethod
    def of(cls, model, device):
        """Bring the networks of a `Model` to a device; no sizes are known yet."""
        networks = (
            None if network is None else inference_form(network, device)
            for network in (
                model.generator,
                model.discriminator,
                model.encoder,
                model.recognizer,
            )
        )
        ruler = model.ruler and copy.deepcopy(model.ruler).to(device)
        others = ruler, model.latent_dim, model.network_shape, device
        return cls(*networks, *others, samples=model.samples)

    def measured(self):
        """Find the batch sizes for as many threads as torch uses now."""
        n_threads, sizes = find_exact_batches(self, fitting_batch(self))
        return replace(self, n_threads=n_threads, sizes=sizes)

    def limited_to(self, largest):
        """The same networks with batches of ``largest`` images at most.

        Below the smallest size that rounds alike, the last bits may change.
        """
        fitting = tuple(size for size in self.sizes if size <= largest)
        return replace(self, sizes=fitting or (largest,))

    @contextmanager
    def rounding_alike(self):
        """Use the measured number of threads, and exact convolutions, in the block."""
        with intraop_threads(self.n_threads), exact_convolutions(self.device):
            yield

    def in_batches(self, function, inputs):
        """Answers of a network for any number of inputs, in batches that round alike.

        The last inputs are repeated where they do not fill a batch.
        """
        return torch.cat(
            [
                function(batch[padding(len(batch), self.sizes, batch.device)])[
                    : len(batch)
                ]
                for batch in inputs.split(self.sizes[-1])
            ]
        )

    def seen(self, x):
        """Images of any size as the networks see them."""
        return resized(x, self.network_shape)

    def distances(self, x):
        """The ruler's distances of images of any size.

        One thread measures: the order in which numbers are added up may depend on how
        many there are.
        """
        with intraop_threads(1), torch.no_grad():
            return self.ruler(resized(x, self.ruler.size))

    def check_finite(self, answers):
        """Refuse NaN and infinity among the networks' answers.

        Raises
        ------
        FloatingPointError
        """
        if not answers.isfinite().all():
            G, D = type(self.generator).__name__, type(self.discriminator).__name__
            raise FloatingPointError(
                f"{G} or {D} answered with NaN or infinity. Train networks whose "
                "answers are finite for every latent code and image."
            )


def inference_form(network, device):
    """A frozen copy of a network on ``device``.

    Batch norms are folded into the layers before them, and the rows of linear layers
    are aligned. Convolutions keep their weights channels last, which is faster.
    """
    network = copy.deepcopy(network).to(device).eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold_batch_norms(module)
    for module in network.modules():
        if type(module) is nn.Linear:
            # Its weight, its hooks and its name stay what a network may rely on.
            module.__class__ = AlignedLinear
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


class AlignedLinear(nn.Linear):
    """A linear layer padded with zeros to sizes that are multiples of _ALIGNMENT.

    If the length of a row is no such multiple, rounding depends on where the row starts
    in memory, and so on its place in the batch.
    """

    @classmethod
    def of(cls, weight, bias=None):
        """The layer x -> weight x + bias, frozen."""
        layer = cls(*weight.T.shape, bias=bias is not None, device="meta")
        layer.weight = nn.Parameter(weight)
        layer.bias = None if bias is None else nn.Parameter(bias)
        return layer.requires_grad_(False)

    def forward(self, x):
        n_in, n_out = -self.in_features % _ALIGNMENT, -self.out_features % _ALIGNMENT
        weight = pad(self.weight, (0, n_in, 0, n_out)) if n_in or n_out else self.weight
        x = linear(pad(x, (0, n_in)), weight)[..., : self.out_features]
        return x if self.bias is None else x + self.bias


def largest_batch(device):
    """Most images of a batch on this device."""
    return CPU_BATCHES[-1] if device.type == "cpu" else GPU_BATCHES[-1]


def fitting_batch(networks, n_workers=1):
    """Most images that a batch can have with the memory at hand.

    The memory of the device is shared by ``n_workers`` workers.
    """
    device = networks.device
    n_bytes = _MEMORY_SHARE * free_memory(device) / n_workers
    n_fitting = max(1, n_bytes / bytes_of_a_search(networks))
    largest = largest_batch(device)
    while largest > n_fitting:
        largest //= 2
    return largest


@torch.enable_grad()
def bytes_of_a_search(networks):
    """Memory that autograd keeps for the gradient of one image."""

    def bytes_kept(n_images):
        n_bytes = 0

        def count(tensor):
            nonlocal n_bytes
            n_bytes += tensor.nbytes
            # The tensor itself would keep the graph that keeps the tensor, for good.
            return tensor.detach()

        shape = n_images, networks.latent_dim
        z = torch.zeros(shape, dtype=torch.float32, device=networks.device)
        z.requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            networks.discriminator.features(networks.generator(z))
        return n_bytes

    return max(1, bytes_kept(2) - bytes_kept(1))  # the weights are kept only once


def padding(n, sizes, device):
    """Rows 0 to n - 1, the last repeated to make one of ``sizes``."""
    size = next(size for size in sizes if size >= n)
    return torch.arange(size, device=device).clamp(max=n - 1)


@torch.enable_grad()
def find_exact_batches(networks, largest):
    """Batch sizes with which the networks round as a single thread does.

    The sizes are measured rather than assumed. The networks' answers for some images,
    and the gradients, have to come out with the same bits in batches of that size and
    at other places of the batch.

    Parameters
    ----------
    networks : FrozenNetworks
    largest : int
        Most images that memory has room for.

    Returns
    -------
    n_threads : int or None
        As many threads as torch uses now, or 1 if no size rounds alike with these; None
        for devices other than the CPU.
    sizes : tuple of int
        Ascending.
    """
    if networks.device.type != "cpu":
        return None, (min(largest, GPU_BATCHES[-1]),)
    sizes = tuple(size for size in CPU_BATCHES if size <= largest)
    if not sizes:
        return 1, (largest,)
    rng = torch.Generator().manual_seed(0)
    shape = CPU_BATCHES[-1], networks.latent_dim
    z = 2 * torch.rand(shape, generator=rng, dtype=torch.float32) - 1
    rows = torch.arange(len(z))
    with intraop_threads(1):
        wanted = [_answers(networks, z[batch]) for batch in rows.split(CPU_BATCHES[0])]
    wanted = torch.cat(wanted).flip(0)
    for n_threads in (torch.get_num_threads(), 1):
        with intraop_threads(n_threads):
            exact = [
                size
                for size in sizes
                if wanted.equal(
                    torch.cat(
                        [_answers(networks, z[b]) for b in rows.flip(0).split(size)]
                    )
                )
            ]
        if exact:
            return n_threads, tuple(exact)
    return 1, sizes[:1]


def _answers(networks, z):
    """All that the networks tell of some codes, and a gradient, in one row for each."""
    z = z.requires_grad_()
    G_z = networks.generator(z)
    f = networks.discriminator.features(G_z)
    loss = (G_z - 0.5).abs().sum() + (f - 0.5).abs().sum()
    (gradient,) = torch.autograd.grad(loss, z)
    found = [gradient, G_z, f]
    if networks.encoder is not None:
        found.append(networks.encoder(G_z.detach()))
    if networks.recognizer is not None:
        found.append(networks.recognizer(f.detach()))
        found.append(networks.recognizer.transformations[-1](G_z.detach()))
    return torch.cat([answer.detach().flatten(1) for answer in found], 1)


def _fold_batch_norms(layers):
    """Fold the batch norms of a sequence into the layers before them."""
    for i, (layer, norm) in enumerate(pairwise(layers)):
        if getattr(norm, "running_mean", None) is None:
            continue
        if (
            layer._forward_hooks
            or norm._forward_hooks
            or getattr(layer, "groups", 1) > 1
        ):
            continue
        if type(norm) is nn.BatchNorm1d and type(layer) is nn.Linear:
            layers[i] = fuse_linear_bn_eval(layer, norm)
        elif type(norm) is nn.BatchNorm2d and type(layer) is nn.Conv2d:
            layers[i] = fuse_conv_bn_eval(layer, norm)
        elif type(norm) is nn.BatchNorm2d and type(layer) is nn.ConvTranspose2d:
            layers[i] = fuse_conv_bn_eval(layer, norm, transpose=True)
        else:
            continue
        layers[i + 1] = nn.Identity()
