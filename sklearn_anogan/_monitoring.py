# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What watches a training: measures, shows, tells callbacks, judges in the end."""

import dis
from math import nan, prod

import numpy as np
import torch
from skorch.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback import with_callbacks as with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:
        """Stands in for scikit-learn's."""

    def with_callbacks(method):
        """Stands in for scikit-learn's."""
        return method


#: Images that the diversity is measured on, and numbers in them, at most.
_DIVERSITY_IMAGES, _DIVERSITY_VALUES = 256, 2**22

#: The diversity that a trained generator should have, at least.
_LEAST_DIVERSITY = 0.5

#: Mean loss of an epoch that is beyond all that was seen in trainings that went well.
_LARGEST_LOSS = 100

#: Difference of D(x) and D(G(z)) at which the discriminator has won, and at which it
#: knows its images by heart if it has more weights than there are numbers in them.
_WINNING_GAP, _FEW_IMAGES_GAP = 0.98, 0.9

#: Steps between two measurements of the diversity, at least; with few images, an epoch
#: is shorter than that.
_DIVERSITY_EVERY = 25


class EarlyStop(Exception):  # noqa: N818 (not an error)
    """A callback has ended the training, for instance skorch's EarlyStopping."""


class StoppedFromOutside(EarlyStop):
    """Raised if it is one of scikit-learn's callbacks."""


def is_deliberate(interrupt):
    """Whether a KeyboardInterrupt comes from a raise statement, not from Ctrl-C."""
    traceback = interrupt.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    instruction = traceback.tb_frame.f_code.co_code[traceback.tb_lasti]
    return instruction == dis.opmap["RAISE_VARARGS"]


class Diversity(Callback):
    """Records how much generated images differ from each other.

    The figure is the mean distance of an image from its nearest neighbour among
    generated images, relative to that among as many training images: about 1 for a
    generator that has learned their distribution, 0 for one that always draws the same
    image. The mean distance of all pairs would miss a generator that has collapsed to
    a few different images.
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
    """Moves a tqdm bar with the epochs and shows what the history holds of them."""

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
    snapshot : callable
        ``snapshot(trained)`` is the dictionary of fitted attributes as they would be if
        training ended now.
    name : str
        Of the training.
    as_trained : callable
        ``as_trained(net)`` is what a snapshot is made of.
    """

    def __init__(self, context, of_fit, snapshot, name, as_trained):
        self.context, self.of_fit = context, of_fit
        self.snapshot, self.name, self.as_trained = snapshot, name, as_trained

    def on_train_begin(self, net, **kwargs):
        self.training_ = self.context.subcontext(self.name, None, net.max_epochs)
        self.training_.call_on_fit_task_begin(**self.of_fit)

    def on_epoch_begin(self, net, **kwargs):
        self.epoch_ = self.training_.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(**self.of_fit)

    def on_epoch_end(self, net, **kwargs):
        if self._end(self.epoch_, net):
            raise StoppedFromOutside

    def on_train_end(self, net, **kwargs):
        self._end(self.training_, net)

    def _end(self, task, net):
        return task.call_on_fit_task_end(
            **self.of_fit,
            reconstruction_attributes=lambda: self.snapshot(self.as_trained(net)),
        )


def find_problems(net, n_values):
    """What went wrong in the training of a GAN, in words for its user.

    The losses and answers of the last tenth of the epochs are judged, and the diversity
    of the generator as it is in the end, which is put into the history.

    Parameters
    ----------
    net : GANNet
        Trained.
    n_values : int
        Numbers in all training images together.

    Returns
    -------
    problems : list of str
    """
    history = net.history
    diversity = dict(net.callbacks_)["diversity"].measure(net)
    history.record("diversity", diversity)
    last = history[-max(1, len(history) // 10) :]
    loss_D, loss_G, _, d_real, d_fake = (
        float(np.mean([epoch[name] for epoch in last])) for name in net.record_names
    )
    n_weights = sum(p.numel() for p in net.discriminator_.parameters())
    n_steps = sum(epoch["train_batch_count"] for epoch in history)
    answers = (
        f"D(x) = {d_real:.3f} for training images, D(G(z)) = {d_fake:.3f} for generated"
    )
    problems = []
    if max(abs(loss_D), abs(loss_G)) > _LARGEST_LOSS:
        problems.append(
            f"The losses have exploded: discriminator_loss = {loss_D:.3g}, "
            f"generator_loss = {loss_G:.3g}. Lower the learning rate, lr={net.lr}."
        )
    elif d_real - d_fake > _FEW_IMAGES_GAP and n_values < n_weights:
        problems.append(
            f"The images are too few for networks of this width: the discriminator "
            f"knows them by heart, {answers} ones. Its {n_weights} weights face "
            f"{n_values} numbers in the images. Use more images or a smaller n_filters."
        )
    elif d_real - d_fake > _WINNING_GAP:
        problems.append(
            f"The discriminator has won: {answers} ones, so that the generator learns "
            "little from it. Use a smaller lr or more images, or look whether "
            "something in the images is out of a generator's reach, such as noise."
        )
    if diversity < _LEAST_DIVERSITY:
        problems.append(
            "The generator has collapsed or is not trained yet: after "
            f"{n_steps} steps its images differ from each other {diversity:.2f} times "
            "as much as the training images do. Look at sample(), train for more "
            "epochs, or try another lr, n_filters or random_state."
        )
    return problems
