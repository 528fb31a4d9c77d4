# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The latent search of any number of images: blocks, memory, workers and devices."""

import os
from math import ceil
from typing import NamedTuple

import torch
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed
from torch import nn
from tqdm import tqdm

from ._devices import CUDA_CAPTURE, free_memory, intraop_threads, is_out_of_memory
from ._inference import fitting_batch
from ._inversion import Candidates, invert, measure_batches

#: Batches in a block, at most.
_BATCHES_OF_A_BLOCK = 8


class Search(NamedTuple):
    """All that one device needs to search."""

    generator: nn.Module  # as `inference_form` makes it
    discriminator: nn.Module  # as `inference_form` makes it
    candidates: Candidates

    def without_recognizer(self):
        """The same, for answers that need no recognition."""
        return self._replace(candidates=self.candidates._replace(recognizer=None))


def invert_in_blocks(
    searches, images, index, value_range, keep, *, n_jobs, verbose, **settings
):
    """Search images block by block, so that memory does not grow with their number.

    Parameters
    ----------
    searches : list of Search
        One for each device; the blocks are dealt out to them in turn.
    images : Images
    index : ndarray of shape (n,)
        Which of the images.
    value_range : ValueRange
    keep : callable
        ``keep(x, found)`` picks from a block and its `Inversion` a tensor with what to
        return. Has to be picklable, as workers may be other processes.
    n_jobs : int or None
        Workers of joblib: processes on the CPU and threads on GPUs, unless its
        configuration names a backend.
    verbose : int
        Show a progress bar if not 0.
    **settings
        Of `invert`.

    Returns
    -------
    kept : tensor of shape (n, ...)
        On the CPU.

    Raises
    ------
    MemoryError
        If a single image does not fit into memory.
    """
    G, D, candidates = searches[0]
    on_cpu = candidates.z.device.type == "cpu" and len(searches) == 1
    # Python's lock holds up threads on the CPU; GPUs do not want to be shared between
    # processes.
    prefer = "processes" if on_cpu else "threads"
    n_workers = max(effective_n_jobs(n_jobs), len(searches))
    backend, _ = get_active_backend(prefer=prefer)
    n_threads, n_sharing = None, ceil(n_workers / len(searches))
    if on_cpu and n_workers > 1:
        n_sharing = min(n_workers, os.cpu_count())  # a cluster has more elsewhere
        n_threads = max(1, torch.get_num_threads() // n_workers)
    largest_batch = fitting_batch(G, D, candidates.z, n_sharing)
    with intraop_threads(n_threads):
        measure_batches(G, D, candidates)  # measured here once for all workers
    if not getattr(backend, "supports_sharedmem", False):
        n_threads = None  # other processes have their own number
    # Full batches, a share for every worker, and no more than is worth a task: the
    # search holds features as well.
    n_batches = min(
        images.block_size() // largest_batch,
        ceil(len(index) / n_workers / largest_batch),
        _BATCHES_OF_A_BLOCK,
    )
    size = max(1, n_batches) * largest_batch
    blocks = (images.read(index[block]) for block in gen_batches(len(index), size))
    tasks = (
        delayed(_invert_block)(
            value_range.to_network(block, block.device),
            searches[i % len(searches)],
            keep,
            n_threads,
            largest_batch,
            settings,
        )
        for i, block in enumerate(blocks)
    )
    one_by_one = getattr(backend, "supports_return_generator", False)
    parallel = Parallel(
        n_jobs=n_workers,
        prefer=prefer,
        return_as="generator" if one_by_one else "list",
    )
    kept = []
    with (
        intraop_threads(None),  # whatever the workers leave behind
        tqdm(total=len(index), unit=" images", disable=not verbose) as progress,
    ):
        for part in parallel(tasks):
            kept.append(part)
            progress.update(len(part))
    return torch.cat(kept)


def _invert_block(x, search, keep, n_threads, largest_batch, settings):
    """Search a block, in ever smaller parts for as long as memory does not suffice."""
    device = search.candidates.z.device
    begin, size, kept = 0, len(x), []
    with intraop_threads(n_threads):
        while begin < len(x):
            try:
                part = x[begin : begin + size].to(device)
                found = invert(*search, part, largest_batch=largest_batch, **settings)
                kept.append(keep(part, found).cpu())
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
    return torch.cat(kept)


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
