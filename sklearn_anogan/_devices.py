# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Torch devices: names, memory, threads, random states, exactness."""

import threading
from contextlib import ExitStack, contextmanager

import psutil
import torch

#: In a process, one thread at a time may record a CUDA graph or free cached memory.
CUDA_CAPTURE = threading.Lock()

#: Threads share torch's random state: only one thread may train at a time.
_RANDOM_STATE = threading.RLock()


def resolve_device(device):
    """Torch device of a name. "auto" is CUDA if available, otherwise the CPU.

    Raises
    ------
    ValueError
        If `device` cannot be used.
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
    """List of torch devices for one device or a list, see `resolve_device`."""
    if not isinstance(devices, list | tuple):
        return [resolve_device(devices)]
    if not devices:
        raise ValueError("device=[] names no device. Use 'auto' or 'cpu'.")
    return [resolve_device(device) for device in devices]


def free_memory(device):
    """Bytes that can be allocated on `device`."""
    if device.type == "cuda":
        in_reserve = torch.cuda.memory_reserved(device)
        in_reserve -= torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + in_reserve
    return psutil.virtual_memory().available


def is_out_of_memory(error):
    """Whether an error of torch or Python means that memory ran out."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        text in str(error)
        for text in (
            "DefaultCPUAllocator",
            "not enough memory",
            "out of memory",
            "ALLOC_FAILED",
        )
    )


class _DefaultDtype:
    """Makes float32 torch's default type, for as long as any thread needs it."""

    def __init__(self):
        self.lock, self.n_users, self.before = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            if self.n_users == 0:
                self.before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self.n_users += 1

    def __exit__(self, *exception):
        with self.lock:
            self.n_users -= 1
            if self.n_users == 0:
                torch.set_default_dtype(self.before)


_FLOAT32 = _DefaultDtype()


@contextmanager
def usual_torch():
    """Torch as it is by default, whatever the user's code has set around a call.

    Inference mode, the default type and device, and autocast would make other scores,
    or fail where they meet what they do not expect.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(_FLOAT32)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device_type in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


@contextmanager
def seeded(seed, device):
    """Seed torch's random state on the CPU and on `device`; restore it on exit."""
    device = torch.device(device)
    is_cuda = device.type == "cuda"
    with _RANDOM_STATE, torch.random.fork_rng([device] if is_cuda else []):
        # torch.manual_seed would seed all other devices too.
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


#: Settings of cuDNN for exact and repeatable convolutions.
_EXACT = {"deterministic": True, "benchmark": False, "allow_tf32": False}


class _Exactness:
    """Exact and repeatable convolutions on CUDA devices, in a ``with`` statement.

    All threads of a process share the settings of cuDNN. The first thread that enters
    changes the settings, and the last thread that leaves restores them.
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
    """Let torch use `n_threads` threads of the CPU; None does not change them."""
    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        # Even if n_threads is None: each Python thread has its own number, and a new
        # thread starts with the number that was last set in any thread.
        torch.set_num_threads(before)
