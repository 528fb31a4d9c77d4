# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a training needs to know besides the images."""

import math
from dataclasses import dataclass

import torch
from skorch.callbacks import LRScheduler

from .._networks import BUILT_IN
from .._warnings import warn_user

#: Steps that ``max_epochs="auto"`` gives each network: so many for each pixel along the
#: longer side of images, or for each column of rows; the fewest and the most.
_STEPS_OF_A_PIXEL, _FEWEST_STEPS = 24, 320
_STEPS_OF_A_COLUMN, _FEWEST_STEPS_OF_ROWS = 24, 500
_MOST_STEPS = 1000

#: ``n_filters="auto"``: filters for images of up to so many pixels along a side. For
#: twice the side there are half as many, which costs about the same, but never fewer
#: than the last number.
_AUTO_FILTERS, _AUTO_SIDE, _FEWEST_FILTERS = 32, 32, 4

#: Channels that are many. The convolutions next to the image then cost most: about
#: a minute on one core for so many values of images, times filters, in all steps.
_MANY_CHANNELS, _A_MINUTE = 12, 1.5e9


@dataclass(frozen=True)
class TrainingSettings:
    """What the trained networks depend on, besides images and seed; see AnoGANDetector.

    Attributes
    ----------
    generator, discriminator : nn.Module classes
        See `_networks` for their contract.
    latent_dim : int
    latent_prior : {"uniform", "normal"}
    n_filters : int or "auto"
    adversarial_loss : str
        A key of `ADVERSARIAL_LOSSES`.
    ema_decay, self_supervision : float
    max_epochs : int or "auto"
    batch_size : int
    lr : float
    lr_schedule : {"linear", "constant"}
    mixed_precision : bool
    callbacks : tuple of skorch callbacks
    device : torch.device
    """

    generator: type
    discriminator: type
    latent_dim: int
    latent_prior: str
    n_filters: int | str
    adversarial_loss: str
    ema_decay: float
    self_supervision: float
    max_epochs: int | str
    batch_size: int
    lr: float
    lr_schedule: str
    mixed_precision: bool
    callbacks: tuple
    device: torch.device

    @property
    def decays_lr(self):
        """Whether the learning rate falls to 0; a user's own schedule replaces ours."""
        callbacks = map(unnamed, self.callbacks)
        has_own = any(isinstance(callback, LRScheduler) for callback in callbacks)
        return self.lr_schedule == "linear" and not has_own

    def n_filters_for(self, height, width):
        """Filters of the layer next to images of this size."""
        if self.n_filters != "auto":
            return self.n_filters
        longest = max(height, width, _AUTO_SIDE)
        return max(_FEWEST_FILTERS, _AUTO_FILTERS * _AUTO_SIDE // longest)

    def n_epochs(self, n_images, chw):
        """Epochs for this number of images of this shape, (channels, height, width)."""
        if self.max_epochs != "auto":
            return self.max_epochs
        n_images = min(n_images, self.most_images_of_an_epoch(chw))
        n_batches = n_images // self.n_images_of_a_batch(n_images)
        return math.ceil(_auto_steps(*chw) / n_batches)

    def most_images_of_an_epoch(self, chw):
        """Most images of an epoch; None for all of them.

        So many images that an epoch would have more than all steps.
        """
        if self.max_epochs != "auto":
            return None
        return _auto_steps(*chw) * self.batch_size

    def n_images_of_a_batch(self, n_images):
        """Images in a step, for this number of images."""
        return min(self.batch_size, n_images)

    def tell_of_many_channels(self, n_images, chw):
        """Warn if the channels of images make a training long, before it begins.

        Of networks of the user's own nothing is known, and a GPU is faster.
        """
        n_channels, height, width = chw
        is_known = (self.generator, self.discriminator) == BUILT_IN["images"]
        if not is_known or n_channels <= _MANY_CHANNELS or self.device.type != "cpu":
            return
        batch_size = self.n_images_of_a_batch(n_images)
        n_seen = min(n_images, self.most_images_of_an_epoch(chw) or n_images)
        n_steps = self.n_epochs(n_images, chw) * (n_seen // batch_size)
        work = n_steps * batch_size / 16 * math.prod(chw)
        minutes = work * self.n_filters_for(height, width) / _A_MINUTE
        if minutes > 2:
            warn_user(
                f"Training on images of {n_channels} channels and {height} x {width} "
                f"pixels takes about {minutes:.0f} minutes on one core. It takes less "
                f"time on the {_MANY_CHANNELS} leading principal components of the "
                "channels, by scikit-learn's PCA with a row for each pixel, or with "
                "fewer max_epochs."
            )


def unnamed(callback):
    """A callback that may come as a tuple of its name and itself, as in skorch."""
    return callback[-1] if isinstance(callback, tuple) else callback


def _auto_steps(n_channels, height, width):
    if height == width == 1:  # rows
        steps, fewest = _STEPS_OF_A_COLUMN * n_channels, _FEWEST_STEPS_OF_ROWS
    else:
        steps, fewest = _STEPS_OF_A_PIXEL * max(height, width), _FEWEST_STEPS
    return min(max(steps, fewest), _MOST_STEPS)
