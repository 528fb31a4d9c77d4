# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Callbacks of a training: diversity, progress, scikit-learn's own callbacks."""

from math import nan, prod

import numpy as np
import torch
from skorch.callbacks import Callback

from ._stopping import Stop

#: Images that the diversity is measured on, and numbers in them, at most.
_DIVERSITY_IMAGES, _DIVERSITY_VALUES = 256, 2**22

#: Steps between two measurements of the diversity, at least. With few images, an epoch
#: is shorter than that.
_DIVERSITY_EVERY = 25


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
