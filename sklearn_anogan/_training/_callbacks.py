# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Callbacks of a training: diversity, time, progress, scikit-learn's own callbacks."""

import logging
import sys
import time
from math import nan, prod

import numpy as np
import torch
from skorch.callbacks import Callback
from tqdm import tqdm

from ._stopping import Stop

#: Images that the diversity is measured on, and numbers in them, at most.
_DIVERSITY_IMAGES, _DIVERSITY_VALUES = 256, 2**22

#: Steps between two measurements of the diversity, at least. With few images, an epoch
#: is shorter than that.
_DIVERSITY_EVERY = 100


#: Steps before the time of steps is measured, and steps that are measured.
_WARM_STEPS, _TIMED_STEPS = 3, 5

#: Seconds of a training that is announced in any case.
_LONG = 300

logger = logging.getLogger("sklearn_anogan")


class Diversity(Callback):
    """Records how much generated images differ from each other.

    The diversity is the mean distance of a generated image from the nearest other one,
    relative to the same mean among as many training images. It is about 1 for a
    generator that has learned the distribution of the training images, and 0 for a
    generator that always draws the same image. The mean distance of all pairs would
    miss a generator that has collapsed to a few different images.
    """

    def on_train_begin(self, net, X=None, **kwargs):
        n_fitting = max(2, _DIVERSITY_VALUES // prod(X[0].shape))
        n = min(len(X), _DIVERSITY_IMAGES, n_fitting)
        index = np.linspace(0, len(X) - 1, n).astype(int)
        images = X.__getitems__(index).unique(dim=0)  # copies have no distance
        self.spread_ = _spread(images)
        rng = torch.Generator(net.device).manual_seed(0)
        self.codes_ = net.sample_prior(len(images), rng=rng)
        self.n_steps_ = _DIVERSITY_EVERY  # since the last measurement

    def on_epoch_end(self, net, **kwargs):
        self.n_steps_ += net.history[-1, "train_batch_count"]
        if self.n_steps_ >= _DIVERSITY_EVERY or len(net.history) == net.max_epochs:
            self.diversity_ = self.measure(net)
            self.n_steps_ = 0
        net.history.record("diversity", self.diversity_)

    @torch.no_grad()
    def measure(self, net):
        """The diversity of the net's generator as it is now."""
        G = net.module_.eval()
        images = torch.cat([G(z) for z in self.codes_.split(net.batch_size)])
        return _spread(images) / self.spread_ if self.spread_ > 0 else nan


def _spread(images):
    """Mean distance to the nearest other image."""
    if len(images) < 2:
        return 0.0
    distances = torch.cdist(images.flatten(1), images.flatten(1))
    return distances.fill_diagonal_(torch.inf).amin(1).mean().item()


class Forecast(Callback):
    """Tells what is trained, how large it is, and about how long that takes.

    The time is known after some steps. A training that takes long is told of by a
    message of Python's logging in any case.

    Parameters
    ----------
    name : str
        Name of the training.
    verbose : int
    """

    def __init__(self, name, verbose):
        self.name, self.verbose = name, verbose

    def on_train_begin(self, net, **kwargs):
        self.n_steps = 0

    def on_batch_end(self, net, batch=None, **kwargs):
        if self.n_steps is None:  # told
            return
        if self.n_steps == 0:
            self.n_epochs_before = len(net.history) - 1  # of a checkpoint
        self.n_steps += 1
        if self.n_steps not in (_WARM_STEPS, _WARM_STEPS + _TIMED_STEPS):
            return
        if batch.is_cuda:
            torch.cuda.synchronize(batch.device)
        if self.n_steps == _WARM_STEPS:
            self.begun = time.perf_counter()
            return
        self.n_steps = None
        of_a_step = (time.perf_counter() - self.begun) / _TIMED_STEPS
        self._tell(net, batch, of_a_step)

    def _tell(self, net, batch, of_a_step):
        n_epochs = net.max_epochs - self.n_epochs_before
        n_steps = n_epochs * net.n_batches
        seconds = n_steps * of_a_step
        n_weights = sum(
            p.numel()
            for parameters in net.parameters_of.values()
            for _, p in parameters
            if p.requires_grad
        )
        message = (
            f"Training the {self.name}: {n_weights:,} weights, {_describe(batch)}, "
            f"{n_steps} steps in {n_epochs} epochs, about {_in_words(seconds)}."
        )
        if self.verbose:
            tqdm.write(message, file=sys.stderr)
        if seconds > _LONG:
            logger.warning(
                "%s Fewer max_epochs, fewer n_filters or a smaller network_side take "
                "less time.",
                message,
            )


def _describe(batch):
    n, channels, height, width = batch.shape
    if height == width == 1:
        return f"batches of {n} rows of {channels} numbers"
    of_channels = f" and {channels} channels" if channels > 1 else ""
    return f"batches of {n} images of {height} x {width} pixels{of_channels}"


def _in_words(seconds):
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


class ProgressBar(Callback):
    """Moves a tqdm bar with the epochs and shows what the history says of the last."""

    def __init__(self, bar):
        self.bar = bar

    def on_epoch_end(self, net, **kwargs):
        row = net.history[-1]
        shown = [name for name in (*net.record_names, "diversity") if name in row]
        self.bar.set_postfix({k: f"{row[k]:.2g}" for k in shown}, refresh=False)
        self.bar.update(len(net.history) - self.bar.n)


class Reports(Callback):
    """Tells scikit-learn's own callbacks of the epochs.

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        Of the fit.
    of_fit : dict
        ``estimator``, ``X`` and ``y``.
    name : str
        Name of the training.
    snapshot : callable
        ``snapshot(net)`` is the dictionary of the detector's fitted attributes as they
        would be if training ended now.
    """

    def __init__(self, context, of_fit, name, snapshot):
        self.context, self.of_fit = context, of_fit
        self.name, self.snapshot = name, snapshot

    def on_train_begin(self, net, **kwargs):
        self.training_ = self.context.subcontext(self.name, None, net.max_epochs)
        self.training_.call_on_fit_task_begin(**self.of_fit)

    def on_epoch_begin(self, net, **kwargs):
        self.epoch_ = self.training_.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(**self.of_fit)

    def on_epoch_end(self, net, **kwargs):
        if self._end(self.epoch_, net):
            net.stop = Stop.FROM_OUTSIDE

    def on_train_end(self, net, **kwargs):
        self._end(self.training_, net)

    def _end(self, task, net):
        return task.call_on_fit_task_end(
            **self.of_fit, reconstruction_attributes=lambda: self.snapshot(net)
        )
