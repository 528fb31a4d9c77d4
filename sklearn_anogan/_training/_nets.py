# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""GAN and encoder as skorch nets: their training steps."""

import copy
import math
from contextlib import nullcontext
from itertools import chain, compress

import torch
from skorch.callbacks import EpochTimer

from .._losses import encoder_loss, recognition_loss
from .._networks import Recognizer, check_networks, sample_prior
from .._transformations import AllAtOnce, transformations
from ._adversarial import ADVERSARIAL_LOSSES
from ._callbacks import Diversity
from ._stopping import StoppableNet


class Batches:
    """Full batches of images, in another random order in every epoch.

    Parameters
    ----------
    images : TrainingImages
    batch_size : int
    most_images : int or None
        Images of an epoch, at most.
    """

    def __init__(self, images, batch_size, most_images=None):
        self.images, self.batch_size = images, batch_size
        n_images = min(len(images), most_images or len(images))
        # A short last batch, of one image at worst, has no statistics for batch norm.
        self.n_batches = n_images // batch_size

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        order = torch.randperm(len(self.images))[: self.n_batches * self.batch_size]
        for rows in order.split(self.batch_size):
            yield self.images.__getitems__(rows.numpy())


class Net(StoppableNet):
    """What both trainings share, beyond skorch.

    Each batch of the iterator is a tensor of images, without targets. ``train_step``
    answers with ``records``, a tensor of numbers. The history gets their means over the
    epoch, under the names in ``record_names``.
    """

    record_names: tuple[str, ...] = ()

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def initialize_module(self):
        super().initialize_module()
        self.module_.float()
        self.parameters_of = {}  # network -> its parameters by name
        return self

    def get_iterator(self, dataset, training=False):
        # In place of torch's loader, which asks for images one by one.
        batches = Batches(dataset, self.batch_size, self.most_images)
        self.n_batches = len(batches)
        return batches

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        # skorch's own method reads the loss of every batch: a GPU would be waited for.
        if iterator is None:  # no data are set aside for validation
            return
        sums, n_batches = 0.0, 0
        for batch in iterator:
            if self.decays_lr:
                self._set_lr((len(self.history) - 1) * len(iterator) + n_batches)
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            sums = sums + step["records"]
            n_batches += 1
            self.history.record_batch(f"{prefix}_batch_size", len(batch))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self.history.record(f"{prefix}_batch_count", n_batches)
        means = (sums / n_batches).tolist()
        for name, mean in zip(self.record_names, means, strict=True):
            self.history.record(name, mean)
        if not all(map(math.isfinite, means)):
            seen = ", ".join(
                f"{name} = {mean:.3g}"
                for name, mean in zip(self.record_names, means, strict=True)
            )
            raise FloatingPointError(
                f"Training diverged in epoch {len(self.history)}: {seen}. Lower the "
                f"learning rate, lr={self.lr}."
            )

    def _set_lr(self, n_steps):
        """The learning rate after so many steps: it falls to 0 by equal amounts."""
        left = 1 - n_steps / (self.max_epochs * self.n_batches)
        for group in self.optimizer_.param_groups:
            group["lr"] = self.lr * left

    def autocast(self):
        """Convolutions and matrix products in bfloat16, with ``mixed_precision``."""
        if not self.mixed_precision:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, torch.bfloat16)

    def descend(self, losses, batch):
        """One step of the optimizer.

        Parameters
        ----------
        losses : dict
            Loss -> the networks that descend this loss, and no other.
        batch : tensor
            The images, for callbacks.
        """
        self.optimizer_.zero_grad()
        for loss, networks in losses.items():
            named = list(chain.from_iterable(map(self._named_parameters, networks)))
            # The losses share passes of networks, which have to be kept until the end.
            loss.backward(
                inputs=[p for _, p in named if p.requires_grad], retain_graph=True
            )
            self.notify(
                "on_grad_computed", named_parameters=named, batch=batch, training=True
            )
        self.optimizer_.step()

    def _named_parameters(self, network):
        if network not in self.parameters_of:
            self.parameters_of[network] = list(network.named_parameters())
        return self.parameters_of[network]


def training(network):
    """The network in training mode. To ask first is faster than to set it again."""
    return network if network.training else network.train()


class GANNet(Net):
    """A generator and a discriminator, trained against each other.

    The generator that is trained is ``learner_``. The net's ``module_`` has the moving
    average of its weights, which draws better images than the weights of any step. The
    discriminator has a second task: ``recognizer_`` has to tell from its features how a
    real image was transformed. All networks share an optimizer, so that skorch's
    learning rate schedules move them together.

    Parameters
    ----------
    module : nn.Module class
        The generator; ``module__*`` are its arguments, ``module__latent_dim`` among
        them.
    discriminator : nn.Module class
        ``discriminator__*`` are its arguments.
    adversarial_loss : str
        A key of `ADVERSARIAL_LOSSES`.
    latent_prior : {"uniform", "normal"}
        Distribution of the latent codes.
    ema_decay : float in [0, 1)
        Decay of the moving average from step to step.
    self_supervision : float
        Weight of the discriminator's second task. With 0 there is none.
    mixed_precision : bool
        Whether the networks run in bfloat16.
    most_images : int or None
        Images of an epoch, at most; None for all.
    decays_lr : bool
        Whether the learning rate falls to 0 in the course of the training.
    **kwargs
        As for :class:`skorch.NeuralNet`.

    Attributes
    ----------
    recognizer_ : Recognizer or None
        None without a second task: if ``self_supervision`` is 0, or if images of this
        shape allow only one transformation.
    """

    record_names = (
        "discriminator_loss",
        "generator_loss",
        "recognition_loss",
        "d_real",
        "d_fake",
    )

    def __init__(
        self,
        module,
        discriminator,
        *,
        adversarial_loss="bce",
        latent_prior="uniform",
        ema_decay=0.0,
        self_supervision=0.0,
        mixed_precision=False,
        most_images=None,
        decays_lr=False,
        criterion=torch.nn.Module,  # skorch wants one; the losses are functions here
        optimizer=torch.optim.Adam,
        train_split=None,
        **kwargs,
    ):
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.latent_prior = latent_prior
        self.ema_decay = ema_decay
        self.self_supervision = self_supervision
        self.mixed_precision = mixed_precision
        self.most_images = most_images
        self.decays_lr = decays_lr
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            train_split=train_split,
            **kwargs,
        )

    @property
    def _default_callbacks(self):
        return [*super()._default_callbacks, ("diversity", Diversity())]

    def initialize_module(self):
        super().initialize_module()
        arguments = self.get_params_for("discriminator")
        self.discriminator_ = self.initialized_instance(
            self.discriminator, arguments
        ).float()
        shape = tuple(arguments[name] for name in ("n_channels", "height", "width"))
        z = sample_prior(2, self.latent_prior, self.module__latent_dim)
        features_shape = check_networks(self.module_, self.discriminator_, z, shape)
        known = transformations(*shape)
        if self.self_supervision == 0:
            known = known[:1]
        # Made in any case, so that the random numbers which follow are always the same.
        recognizer = Recognizer(features_shape, known)
        self.recognizer_ = recognizer if len(known) > 1 else None
        self.transform = AllAtOnce(known, *shape, self.device)
        self.learner_ = copy.deepcopy(self.module_)
        self.module_.requires_grad_(False)
        self.n_averaged_ = 0
        return self

    def train_step(self, x, **fit_params):
        """One step of D on a real and a generated batch, and of G.

        Both networks step at once, so that D sees each image once.
        """
        losses = ADVERSARIAL_LOSSES[self.adversarial_loss]
        G = training(self.learner_)
        training(self.discriminator_)
        x = x.to(self.device)
        z = self.sample_prior(len(x))

        with self.autocast():  # around both, so that weights are cast once
            G_z = G(z)
            loss_D, loss_G, d_real, d_fake = losses(self._discriminate, x, G_z)
        loss_R = self._recognition_loss(x)
        heads = [] if self.recognizer_ is None else [self.recognizer_]
        of_D = loss_D + self.self_supervision * loss_R
        self.descend({of_D: [self.discriminator_, *heads], loss_G: [G]}, x)
        self._update_average()

        d_real, d_fake = d_real.sigmoid().mean(), d_fake.sigmoid().mean()
        records = torch.stack([loss_D, loss_G, loss_R, d_real, d_fake]).detach()
        total = (loss_D + loss_G).detach()
        return {"loss": total, "y_pred": G_z.detach(), "records": records}

    def _discriminate(self, x):
        """Logits of the discriminator, float32."""
        with self.autocast():
            return self.discriminator_(x).float()

    def _recognition_loss(self, x):
        """The mean over transformed real images."""
        if self.recognizer_ is None:
            return x.new_zeros(())
        R, D = training(self.recognizer_), self.discriminator_
        views, t = self.transform(x)
        with self.autocast():
            logits = R(D.features(views)).float()
        return recognition_loss(logits, t).mean()

    def sample_prior(self, n, rng=None):
        """Latent codes for this generator, on its device."""
        z_dim = self.module__latent_dim
        return sample_prior(n, self.latent_prior, z_dim, device=self.device, rng=rng)

    @torch.no_grad()
    def _update_average(self):
        """Average the weights and the statistics of batch norm over the last steps.

        The average must not remember the weights that a short training began with. So
        it reaches back over a tenth of the steps taken, as long as ``ema_decay`` would
        reach further.
        """
        self.n_averaged_ += 1
        decay = min(self.ema_decay, self.n_averaged_ / (self.n_averaged_ + 9))
        averages, values = (
            (*network.parameters(), *network.buffers())
            for network in (self.module_, self.learner_)
        )
        is_float = [value.is_floating_point() for value in values]
        torch._foreach_lerp_(
            [*compress(averages, is_float)], [*compress(values, is_float)], 1 - decay
        )
        for average, value, is_averaged in zip(averages, values, is_float, strict=True):
            if not is_averaged:
                average.copy_(value)


class EncoderNet(Net):
    """An encoder, trained so that G(E(x)) comes close to x.

    Parameters
    ----------
    module : nn.Module class
        The encoder; ``module__*`` are its arguments.
    generator, discriminator : nn.Module
        Frozen.
    mixed_precision : bool
        Whether the networks run in bfloat16.
    most_images : int or None
        Images of an epoch, at most; None for all.
    decays_lr : bool
        Whether the learning rate falls to 0 in the course of the training.
    **kwargs
        As for :class:`skorch.NeuralNet`.
    """

    record_names = ("encoder_loss",)

    def __init__(
        self,
        module,
        generator,
        discriminator,
        *,
        mixed_precision=False,
        most_images=None,
        decays_lr=False,
        criterion=torch.nn.Module,  # skorch wants one; the loss is a function here
        optimizer=torch.optim.Adam,
        train_split=None,
        **kwargs,
    ):
        self.generator = generator
        self.discriminator = discriminator
        self.mixed_precision = mixed_precision
        self.most_images = most_images
        self.decays_lr = decays_lr
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            train_split=train_split,
            **kwargs,
        )

    def train_step(self, x, **fit_params):
        """One step of E."""
        E, G, f = training(self.module_), self.generator, self.discriminator.features
        x = x.to(self.device)
        with self.autocast():
            G_z = G(E(x))
            loss = encoder_loss(x, G_z.float(), f(x).float(), f(G_z).float())
        self.descend({loss: [E]}, x)
        loss = loss.detach()
        return {"loss": loss, "y_pred": G_z.detach(), "records": loss[None]}
