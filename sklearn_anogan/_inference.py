# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Frozen networks in the form that the latent search wants, and how to call them.

The same image has to get the same bits alone and in any batch. The linear algebra
underneath adds up numbers in an order that depends on the shape of a batch, on where a
row starts in memory, and sometimes on the number of threads. So networks only ever get
batches of a few fixed sizes, those that were seen to round alike, and the rows of
matrices are aligned.
"""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import linear, pad
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ._devices import free_memory, intraop_threads

#: Numbers of images in a batch. Small ones are for the last images of a block. A GPU is
#: not filled by less than one size, and its libraries round others differently.
CPU_BATCHES = (8, 16, 32, 64)
GPU_BATCHES = (512,)

#: Share of the free memory that the searches of all workers may take.
_MEMORY_SHARE = 0.5

#: Columns of a padded matrix come in multiples of this, 64 bytes of float32.
_ALIGNMENT = 16


def inference_form(network, device):
    """A frozen copy of a network on ``device``.

    Batch norms are folded into the layers before them, and the linear layers' rows are
    aligned. Convolutions keep their weights channels last, which is faster.
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

    Matrix products over rows of other lengths round a row differently depending on
    where it starts in memory, and so on its place in the batch.
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


def fitting_batch(generator, discriminator, codes, n_sharing=1):
    """Most images that the networks can be given at once with the memory at hand.

    So many workers share the memory of the device.
    """
    device = codes.device
    n_bytes = _MEMORY_SHARE * free_memory(device) / n_sharing
    n_fitting = max(1, n_bytes / _bytes_of_a_search(generator, discriminator, codes))
    largest = CPU_BATCHES[-1] if device.type == "cpu" else GPU_BATCHES[-1]
    while largest > n_fitting:
        largest //= 2
    return largest


@torch.enable_grad()
def _bytes_of_a_search(generator, discriminator, codes):
    """Memory that autograd keeps for the gradient of one image."""

    def bytes_kept(n_images):
        n_bytes = 0

        def count(tensor):
            nonlocal n_bytes
            n_bytes += tensor.nbytes
            return tensor

        z = codes[:1].repeat(n_images, 1).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            discriminator.features(generator(z))
        return n_bytes

    return max(1, bytes_kept(2) - bytes_kept(1))  # the weights are kept only once


def padding(n, sizes, device):
    """Rows 0 to n - 1, the last repeated to make one of ``sizes``."""
    size = next(size for size in sizes if size >= n)
    return torch.arange(size, device=device).clamp(max=n - 1)


def in_batches(network, inputs, sizes):
    """Answers of a network for any number of inputs, in batches of ``sizes``."""
    return torch.cat(
        [
            network(batch[padding(len(batch), sizes, batch.device)])[: len(batch)]
            for batch in inputs.split(sizes[-1])
        ]
    )


@torch.enable_grad()
def find_exact_batches(
    generator, discriminator, codes, largest, encoder=None, recognizer=None
):
    """Batch sizes with which the networks round as a single thread does.

    Measured rather than assumed: the answers for some images and their gradients have
    to come out with the same bits in batches of that size and at other places of the
    batch.

    Parameters
    ----------
    generator, discriminator : modules
        As `inference_form` makes them.
    codes : tensor of shape (n, latent_dim)
        Tells the device and the type of the numbers.
    largest : int
        Most images that memory has room for.
    encoder, recognizer : modules or None
        As `inference_form` makes them.

    Returns
    -------
    n_threads : int or None
        None for as many threads as there are now, 1 if no size rounds alike with these.
    sizes : tuple of int
        Ascending.
    """
    if codes.device.type != "cpu":
        return None, (min(largest, GPU_BATCHES[-1]),)
    sizes = tuple(size for size in CPU_BATCHES if size <= largest)
    if not sizes:
        return 1, (largest,)
    rng = torch.Generator().manual_seed(0)
    z = 2 * torch.rand(CPU_BATCHES[-1], codes.shape[1], generator=rng).to(codes) - 1

    def answers(rows):
        z_rows = z[rows].requires_grad_()
        G_z = generator(z_rows)
        f = discriminator.features(G_z)
        loss = (G_z - 0.5).abs().sum() + (f - 0.5).abs().sum()
        (gradient,) = torch.autograd.grad(loss, z_rows)
        found = [gradient, G_z, f]
        if encoder is not None:
            found.append(encoder(G_z.detach()))
        if recognizer is not None:
            found.append(recognizer(f.detach()))
            found.append(recognizer.transformations[-1](G_z.detach()))
        return torch.cat([a.detach().flatten(1) for a in found], 1)

    rows = torch.arange(len(z))
    with intraop_threads(1):
        wanted = torch.cat([*map(answers, rows.split(CPU_BATCHES[0]))]).flip(0)
    for n_threads in (None, 1):
        with intraop_threads(n_threads):
            exact = [
                size
                for size in sizes
                if wanted.equal(torch.cat([*map(answers, rows.flip(0).split(size))]))
            ]
        if exact:
            return n_threads, tuple(exact)
    return 1, sizes[:1]


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
