# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints of a training: written whole or not at all, read without trust."""

import hashlib
import io
import time
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback

from .._files import unusable, write_whole
from .._warnings import warn_user

#: A checkpoint is written again when this many times the duration of the last writing
#: has passed, so that checkpoints cost a small share of the training.
_PAUSE = 20

#: Counts up when what a checkpoint holds changes its meaning.
_FORMAT = 2

#: Marks what was an array.
_NDARRAY = "__ndarray__"

_DIGEST_SIZE = hashlib.sha256().digest_size


class Checkpoint(Callback):
    """The state of a training in a file, written after its epochs.

    The file holds weights, the optimizer, the history, random states and what the
    callbacks remember, so that training goes on from there as if it had never stopped.
    This callback has to be the last one of its net.

    Parameters
    ----------
    path : str or Path
        File; its directory is made if need be.
    run : dict
        What the training depends on: strings and numbers under the names that users
        know. A checkpoint of another run is refused.
    adopted : sequence of str
        Keys of ``run`` that a checkpoint's values replace.
    may_replace : callable, optional
        Tells from the state in a checkpoint of another run whether to begin anew rather
        than to refuse it.

    Attributes
    ----------
    run : dict
        With the adopted values.

    Raises
    ------
    ValueError
        If there is a file, but not of this run, or corrupted.
    OSError
        If the file cannot be read.
    """

    def __init__(self, path, run, *, adopted=(), may_replace=lambda state: False):
        self.path = Path(path).absolute()
        self.has_failed = False
        self.run = _as_plain(run)
        self.state = self._read()
        if self.state is None:
            return
        earlier = self.state["run"]
        run = self.run | {name: earlier[name] for name in adopted if name in earlier}
        differences = [
            f"{name} was {earlier.get(name)} and is {run.get(name)}"
            for name in sorted({*earlier, *run})
            if earlier.get(name) != run.get(name)
        ]
        if not differences:
            self.run = run
        elif may_replace(self.state):
            self.state = None
        else:
            raise ValueError(
                f"The checkpoint {self.path} is of another training: "
                f"{'; '.join(differences)}. To go on with it, use what it was begun "
                "with; otherwise delete it, or pass another checkpoint_dir."
            )

    def restore(self, net):
        """Put the net where the checkpoint was written.

        Without one, the first is written.

        Returns
        -------
        is_finished : bool
            Whether nothing is left to train.

        Raises
        ------
        ValueError
            If the checkpoint is further than ``net.max_epochs``.
        OSError
            If the first checkpoint cannot be written.
        """
        if self.state is None:
            self._write(net)
            return False
        state, self.state = self.state, None  # not held for longer than needed
        n_epochs = len(state["net"]["history_"])
        if n_epochs > net.max_epochs:
            raise ValueError(
                f"The checkpoint {self.path} has {n_epochs} epochs, more than "
                f"max_epochs={net.max_epochs}. Raise max_epochs, or pass another "
                "checkpoint_dir."
            )
        _recall(net, state["net"])
        for name, callback in net.callbacks_:
            _recall(callback, state["callbacks"].get(name, {}))
        torch.set_rng_state(state["random"])
        if _is_cuda(net):
            torch.cuda.set_rng_state(state["cuda_random"], net.device)
        self._last, self._pause = time.monotonic(), 0.0
        return state["has_stopped"] or n_epochs == net.max_epochs

    def on_epoch_end(self, net, **kwargs):
        if time.monotonic() - self._last >= self._pause:
            self.save(net)

    def save(self, net, has_stopped=False):
        """Write a checkpoint; if that fails, warn and keep the last one.

        Parameters
        ----------
        net : skorch.NeuralNet
            Between two epochs.
        has_stopped : bool
            Whether a callback has ended the training.
        """
        try:
            self._write(net, has_stopped)
            self.has_failed = False
        except OSError as error:
            if self.has_failed:  # once is enough
                return
            self.has_failed = True
            warn_user(
                f"The checkpoint {self.path} could not be written after epoch "
                f"{len(net.history)}: {error}. The training goes on; if it is "
                "interrupted, it starts again from the last checkpoint written."
            )

    def _read(self):
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable("checkpoint_dir", self.path, error) from error
        digest, content = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(
                f"The checkpoint {self.path} is corrupted. Delete it to train anew, or "
                "pass another checkpoint_dir."
            )
        # weights_only: nothing is executed, whatever the file says.
        state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        if state["format"] != _FORMAT:
            raise ValueError(
                f"The checkpoint {self.path} has format {state['format']}, this "
                f"version of sklearn-anogan reads {_FORMAT}. Delete it to train anew, "
                "or pass another checkpoint_dir."
            )
        return state

    def _write(self, net, has_stopped=False):
        begun = time.monotonic()
        state = {
            "format": _FORMAT,
            "run": self.run,
            "has_stopped": has_stopped,
            "net": _memory_of(net),
            "callbacks": {name: _memory_of(each) for name, each in net.callbacks_},
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(net.device)
            if _is_cuda(net)
            else None,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(
                self.path,
                [hashlib.sha256(content).digest(), content],
                self.path.with_name(self.path.name + ".unfinished"),
            )
        except OSError as error:
            raise unusable("checkpoint_dir", self.path, error) from error
        finally:
            self._last = time.monotonic()
            self._pause = _PAUSE * (self._last - begun)


def digest_of_weights(*state_dicts):
    """SHA-256 of the weights of networks, given by their state dictionaries."""
    digest = hashlib.sha256()
    for state_dict in state_dicts:
        for name, value in state_dict.items():
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def digest_of_images(dataset, block=None):
    """SHA-256 of the images as the networks see them, block by block."""
    block = block or dataset.images.block_size()
    digest = hashlib.sha256(repr(tuple(dataset[0].shape)).encode())
    for start in range(0, len(dataset), block):
        images = dataset.__getitems__(range(start, min(start + block, len(dataset))))
        digest.update(images.cpu().numpy().tobytes())
    return digest.hexdigest()


def _memory_of(instance):
    """The state of a net or a callback, in types that can be read without trust.

    By skorch's convention, attributes with state end in an underscore. Weights and the
    like have a ``state_dict``; what cannot be kept, such as functions, is made anew by
    ``initialize`` and ``on_train_begin``.
    """
    memory = {}
    for name, value in vars(instance).items():
        if not name.endswith("_"):
            continue
        if hasattr(value, "load_state_dict") and not isinstance(value, type):
            memory[name] = _as_plain(value.state_dict())
            continue
        try:
            memory[name] = _as_plain(value)
        except TypeError:
            pass
    return memory


def _recall(instance, memory):
    for name, plain in memory.items():
        value, now = _from_plain(plain), getattr(instance, name, None)
        if hasattr(now, "load_state_dict"):
            now.load_state_dict(value)
        elif isinstance(now, list):
            now[:] = value  # the history is more than a list
        else:
            setattr(instance, name, value)


def _as_plain(value):
    """A value with numpy's types replaced by plain ones; TypeError for other types."""
    if isinstance(value, np.generic):  # first: a float64 is a float too
        return _as_plain(value.item())
    if value is None or isinstance(value, bool | int | float | str | torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return {_NDARRAY: torch.from_numpy(value)}
    if isinstance(value, dict):
        return {_as_plain(key): _as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(item) for item in value]
    raise TypeError(f"{type(value)} cannot be kept in a checkpoint.")


def _from_plain(value):
    if isinstance(value, dict):
        if _NDARRAY in value:
            return value[_NDARRAY].numpy()
        return {key: _from_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_plain(item) for item in value]
    return value


def _is_cuda(net):
    return torch.device(net.device).type == "cuda"
