# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Devices as torch has them: names, memory, threads, random states, exactness."""

import threading
from contextlib import contextmanager

import psutil
import torch

#: A process records one CUDA graph at a time, and leaves its cached memory alone then.
CUDA_CAPTURE = threading.Lock()

#: Torch's own random state is one for all threads: only one may train at a time.
_RANDOM_STATE = threading.RLock()


def resolve_device(device):
    """The torch device that "auto" or a device's name stands for.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved, dtype=torch.float64).item()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: "
            f"{str(error).splitlines()[0].rstrip('.')}. Use 'auto' or 'cpu'."
        ) from error
    return resolved


def resolve_devices(devices):
    """The torch devices of a list, or of a single one, as `resolve_device`."""
    if not isinstance(devices, list | tuple):
        return [resolve_device(devices)]
    if not devices:
        raise ValueError("device=[] names no device. Use 'auto' or 'cpu'.")
    return [resolve_device(device) for device in devices]


def free_memory(device):
    """Bytes that can be allocated."""
    if device.type == "cuda":
        in_reserve = torch.cuda.memory_reserved(device)
        in_reserve -= torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + in_reserve
    return psutil.virtual_memory().available


def is_out_of_memory(error):
    """Whether an error of torch or Python says that memory does not suffice."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        text in str(error)
        for text in (
            "DefaultCPUAllocator",
            "not enough memory",
            "out of memory",
            "ALLOC_FAILED",
        )
    )


@contextmanager
def seeded(seed, device):
    """Seed torch's random state on the CPU and on ``device``, then put it back."""
    device = torch.device(device)
    is_cuda = device.type == "cuda"
    with _RANDOM_STATE, torch.random.fork_rng([device] if is_cuda else []):
        # Not torch.manual_seed: it seeds every other device too.
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


#: Switches of cuDNN, and how they have to be.
_EXACT = {"deterministic": True, "benchmark": False, "allow_tf32": False}


class _Exactness:
    """Exact and repeatable convolutions of CUDA devices, for as long as anyone wants.

    The switches are the process's, while threads come and go: the first one in turns
    them on, and the last one out puts them back.
    """

    def __init__(self):
        self.lock, self.n_inside = threading.Lock(), 0

    @contextmanager
    def __call__(self, device):
        if device.type != "cuda":
            yield
            return
        cudnn = torch.backends.cudnn
        with self.lock:
            if self.n_inside == 0:
                self.before = {name: getattr(cudnn, name) for name in _EXACT}
                self._set(_EXACT)
            self.n_inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.n_inside -= 1
                if self.n_inside == 0:
                    self._set(self.before)

    def _set(self, switches):
        for name, value in switches.items():
            setattr(torch.backends.cudnn, name, value)


exact_convolutions = _Exactness()


@contextmanager
def intraop_threads(n_threads):
    """Let torch use this many threads of the CPU; None leaves them alone."""
    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        # Also if it is unchanged here: torch counts for each of Python's threads, and
        # starts new ones with the number that any of them has set last.
        torch.set_num_threads(before)
