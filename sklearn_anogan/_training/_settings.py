# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a training needs to know besides the images."""

import math
from dataclasses import dataclass

import torch

#: ``max_epochs="auto"`` gives each network about this many steps, and at least this
#: many epochs.
_AUTO_STEPS, _AUTO_MIN_EPOCHS = 1500, 10


@dataclass(frozen=True)
class TrainingSettings:
    """What the trained networks depend on, besides images and seed; see AnoGANDetector.

    Attributes
    ----------
    generator, discriminator : nn.Module classes
        See `_networks` for their contract.
    latent_dim : int
    latent_prior : {"uniform", "normal"}
    n_filters : int
    adversarial_loss : str
        A key of `ADVERSARIAL_LOSSES`.
    ema_decay, self_supervision : float
    max_epochs : int or "auto"
    batch_size : int
    lr : float
    mixed_precision : bool
    callbacks : tuple of skorch callbacks
    device : torch.device
    """

    generator: type
    discriminator: type
    latent_dim: int
    latent_prior: str
    n_filters: int
    adversarial_loss: str
    ema_decay: float
    self_supervision: float
    max_epochs: int | str
    batch_size: int
    lr: float
    mixed_precision: bool
    callbacks: tuple
    device: torch.device

    def n_epochs(self, n_images):
        """Epochs for this number of images."""
        if self.max_epochs != "auto":
            return self.max_epochs
        n_batches = n_images // self.n_images_of_a_batch(n_images)
        return max(_AUTO_MIN_EPOCHS, math.ceil(_AUTO_STEPS / n_batches))

    def n_images_of_a_batch(self, n_images):
        """Images in a step, for this number of images."""
        return min(self.batch_size, n_images)
