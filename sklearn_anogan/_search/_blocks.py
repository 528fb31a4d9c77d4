# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The search of any number of images: blocks, memory, workers and devices."""

import os
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import torch
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from .._devices import CUDA_CAPTURE, free_memory, intraop_threads, is_out_of_memory
from .._inference import fitting_batch, largest_batch

#: Batches in a block, at most.
_BATCHES_OF_A_BLOCK = 8


@dataclass(frozen=True)
class Workers:
    """Who searches.

    Attributes
    ----------
    devices : tuple of torch.device
        The blocks of images are dealt out to the devices in turn.
    n_jobs : int or None
        Workers of joblib: processes on the CPU and threads on GPUs, unless joblib's
        configuration names a backend.
    verbose : int
        Show a progress bar if not 0.
    """

    devices: tuple
    n_jobs: int | None = None
    verbose: int = 0


def search_in_blocks(
    searchers, settings, workers, images, index, answer, *, codes=None
):
    """Search images block by block, so that memory does not grow with their number.

    Parameters
    ----------
    searchers : Searchers
    settings : SearchSettings or None
        None searches and generates nothing: z and G_z are None.
    workers : Workers
    images : Images
    index : ndarray of shape (n,)
        Which of the images.
    answer : callable
        ``answer(x, z, G_z, networks)`` gets a block of m images, their codes, the
        generated images and the networks, and returns a dictionary of tensors (m, ...).
        Other processes must be able to unpickle it.
    codes : tensor of shape (n, latent_dim) or None
        Codes that are known already; then nothing is searched.

    Returns
    -------
    answers : dict of tensors (n, ...)
        On the CPU.

    Raises
    ------
    MemoryError
        If a single image does not fit into memory.
    """
    devices, value_range = workers.devices, searchers.model.value_range
    on_cpu = len(devices) == 1 and devices[0].type == "cpu"
    # Python's lock holds up threads on the CPU; GPUs do not want to be shared between
    # processes.
    prefer = "processes" if on_cpu else "threads"
    n_workers = max(effective_n_jobs(workers.n_jobs), len(devices))
    # No more than there are blocks: a process takes longer to start than to search one.
    n_workers = min(n_workers, ceil(len(index) / largest_batch(devices[0])))
    devices = devices[:n_workers]
    n_threads, n_sharing = None, ceil(n_workers / len(devices))
    if on_cpu and n_workers > 1:
        n_sharing = min(n_workers, os.cpu_count())  # a cluster has more elsewhere
        n_threads = max(1, torch.get_num_threads() // n_workers)
    made = [searchers.make(device, settings, n_threads) for device in devices]
    largest = fitting_batch(made[0].networks, n_sharing)
    size = _block_size(images, len(index), n_workers, largest)

    def tasks():
        for i, block in enumerate(gen_batches(len(index), size)):
            x = images.read(index[block])
            yield delayed(_answer_block)(
                value_range.to_network(x, x.device),
                None if codes is None else codes[block],
                made[i % len(made)],
                answer,
                largest,
            )

    backend, _ = get_active_backend(prefer=prefer)
    one_by_one = getattr(backend, "supports_return_generator", False)
    parallel = Parallel(
        n_jobs=n_workers,
        prefer=prefer,
        return_as="generator" if one_by_one else "list",
    )
    parts = []
    with (
        intraop_threads(None),  # whatever the workers leave behind
        tqdm(total=len(index), unit=" images", disable=not workers.verbose) as progress,
    ):
        for part in parallel(tasks()):
            parts.append(part)
            progress.update(len(next(iter(part.values()))))
    return _join(parts)


class Pairs:
    """Images, each with the generated image that comes closest to it.

    The images are searched once. The codes that were found are kept, and the generated
    images are made again from the codes wherever they are needed.

    Parameters
    ----------
    searchers, settings, workers, images, index
        As of `search_in_blocks`.
    groups : ndarray of shape (n,)
        Number of each image's group.
    """

    def __init__(self, searchers, settings, workers, images, index, groups):
        self.groups = groups
        self._search = partial(search_in_blocks, searchers, settings)
        self._workers, self._images, self._index = workers, images, index
        self.codes = self._search(workers, images, index, _codes)["z"]
        self._distances = None

    def __len__(self):
        return len(self._index)

    def map(self, answer):
        """The answers of ``answer(x, z, G_z, networks)`` for all images.

        See `search_in_blocks`. No progress is shown, since nothing is searched.
        """
        silent = replace(self._workers, verbose=0)
        return self._search(silent, self._images, self._index, answer, codes=self.codes)

    @property
    def distances(self):
        """The ruler's distances of all images, see `FrozenNetworks.distances`."""
        # Not a cached_property: before Python 3.12 its lock is shared by all threads,
        # and one that waits for workers would keep it.
        if self._distances is None:
            found = self.map(_distances)
            self._distances = found["coarse"], found["fine"]
        return self._distances

    def blocks(self):
        """Yield blocks of images as the networks see them, and of generated images."""
        here = replace(self._workers, n_jobs=1, verbose=0)
        for block in gen_batches(len(self), self._images.block_size()):
            index, codes = self._index[block], self.codes[block]
            pair = self._search(here, self._images, index, _pair, codes=codes)
            yield pair["x"], pair["G_z"]


def _codes(x, z, G_z, networks):
    return {"z": z}


def _distances(x, z, G_z, networks):
    coarse, fine = networks.distances(x)
    return {"coarse": coarse, "fine": fine}


def _pair(x, z, G_z, networks):
    return {"x": networks.seen(x), "G_z": G_z}


def _block_size(images, n_images, n_workers, largest_batch):
    """Images in a block: full batches, a share for every worker, and not too many.

    The search of a block holds its features as well.
    """
    n_batches = min(
        images.block_size() // largest_batch,
        ceil(n_images / n_workers / largest_batch),
        _BATCHES_OF_A_BLOCK,
    )
    return max(1, n_batches) * largest_batch


def _answer_block(x, codes, searcher, answer, largest_batch):
    """Search a block, in ever smaller parts for as long as memory does not suffice."""
    device = searcher.networks.device
    begin, size, parts = 0, len(x), []
    while begin < len(x):
        part = slice(begin, begin + size)
        try:
            part_codes = None if codes is None else codes[part]
            limited = searcher.limited_to(largest_batch)
            parts.append(_answer_part(x[part], part_codes, limited, answer))
            begin += size
            continue
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                if isinstance(error, torch.AcceleratorError):
                    raise _device_failed(device, error) from error
                raise
            if largest_batch == 1:
                raise _too_large(x, device) from error
        # Not in the except block, where the error holds on to the memory.
        size = largest_batch = largest_batch // 2
        if device.type == "cuda":
            with CUDA_CAPTURE:
                torch.cuda.empty_cache()
    return _join(parts)


def _answer_part(x, codes, searcher, answer):
    networks = searcher.networks
    x = x.to(networks.device).contiguous(memory_format=torch.channels_last)
    with networks.rounding_alike(), torch.no_grad():
        if searcher.settings is None:
            z = G_z = None
        elif codes is None:
            z, G_z = searcher.search(networks.seen(x))
        else:
            z = codes.to(networks.device)
            G_z = networks.in_batches(networks.generator, z)
        found = answer(x, z, G_z, networks)
    return {name: tensor.cpu() for name, tensor in found.items()}


def _join(parts):
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _too_large(x, device):
    channels, height, width = x.shape[1:]
    return MemoryError(
        f"The search of a single image of {height} x {width} pixels and {channels} "
        f"channel(s) does not fit into the memory of device {str(device)!r}, of which "
        f"{free_memory(device) / 2**30:.2f} GiB are free. Use smaller images or "
        "patches of them, fewer n_filters, or a device with more memory."
    )


def _device_failed(device, error):
    return RuntimeError(
        f"Device {str(device)!r} failed during the search: {error} The detector is "
        "unchanged: score again on another device, for example device='cpu', in a new "
        "process if this one cannot use the device any more."
    )
