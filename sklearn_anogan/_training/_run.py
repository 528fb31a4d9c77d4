# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""A training from start to end: the GAN, then perhaps an encoder."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import joblib
import torch
from tqdm import tqdm

from .._devices import exact_convolutions, is_out_of_memory, seeded, usual_torch
from .._images import TrainingImages
from .._model import Model, frozen
from .._networks import check_network_class, encoder_class
from .._ruler import Ruler
from ._callbacks import Forecast, ProgressBar
from ._checkpoints import Checkpoint, digest_of_weights
from ._description import check_callbacks, describe_code, describe_run
from ._memory import remember
from ._nets import EncoderNet, GANNet
from ._problems import find_problems
from ._settings import TrainingSettings
from ._stopping import Stop


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """One training of the detector.

    Attributes
    ----------
    images : TrainingImages
        As the networks see them.
    settings : TrainingSettings
    seed : int
        Seeds weights, batches and latent codes; the global random state is left alone.
    samples : tensor of shape (n, d)
    ruler : Ruler or None
        Parts of the model that this training does not change.
    has_random_seed : bool
        Whether the seed was drawn at random, so that a checkpoint's may replace it.
    start : Model or None
        What the training goes on from; None for new weights.
    checkpoint_dir : str, Path or None
    memory : str, Path, joblib.Memory or None
        Keeps models; a model that is in there is not trained again.
    report : callable or None
        ``report(name, as_model)`` is another callback for the training of this name.
        ``as_model(net)`` makes a `Model` of the net as it is at that moment.
    verbose : int
    """

    images: TrainingImages
    settings: TrainingSettings
    seed: int
    samples: torch.Tensor
    ruler: Ruler | None = None
    has_random_seed: bool = False
    start: Model | None = None
    checkpoint_dir: str | Path | None = None
    memory: str | Path | joblib.Memory | None = None
    report: Callable | None = None
    verbose: int = 0

    @usual_torch()
    def train(self, *, with_encoder):
        """Train a generator and a discriminator on normal images, then an encoder.

        Returns
        -------
        model : Model

        Raises
        ------
        ValueError
            If the networks break their contract or do not fit ``start``, or if a
            checkpoint cannot be gone on from.
        FloatingPointError
            If training diverged.
        MemoryError
            If a batch does not fit into memory.
        OSError
            If ``checkpoint_dir`` cannot be used.
        """
        check_callbacks(self.settings.callbacks)
        key = self._key()
        model, is_kept = remember(self.memory, self._train_gan, key)
        if with_encoder:
            model, _ = remember(
                self.memory if is_kept else None,
                partial(self._train_encoder, model),
                key and {"encoder of": key},
            )
        # Memory ignores the user's units: layout and range are those of these images.
        return replace(model, **self._units())

    def _train_gan(self):
        """The model without an encoder, and whether to keep it in memory."""
        checkpoint = self._checkpoint(
            "gan",
            {"random_state": self.seed, "warm_start": self._digest_of_start},
            adopted=["random_state"] if self.has_random_seed else [],
            # Of the fit that ``start`` comes from, which is finished.
            may_replace=lambda state: (
                self._digest_of_start == _digest_of_gan(**state["net"])
            ),
        )
        seed = checkpoint.run["random_state"] if checkpoint else self.seed

        def as_model(net, problems=()):
            R = net.recognizer_
            return Model(
                generator=frozen(net.module_),
                discriminator=frozen(net.discriminator_),
                recognizer=None if R is None else frozen(R),
                latent_prior=self.settings.latent_prior,
                latent_dim=self.settings.latent_dim,
                n_filters=self.settings.n_filters_for(*self.images.size),
                network_shape=tuple(self.images.size),
                seed=seed,
                history=copy.copy(net.history),
                problems=tuple(problems),
                **self._units(),
            )

        net = train_gan(
            self.images,
            self.settings,
            seed=seed,
            start=self.start,
            callbacks=self._reports("GAN", as_model),
            checkpoint=checkpoint,
            verbose=self.verbose,
        )
        n_values = len(self.images) * self.images[0].numel()
        are_rows = not self.images.images.layout.has_places
        problems = find_problems(net, n_values, are_rows)
        return as_model(net, problems), net.stop is not Stop.FROM_OUTSIDE

    def _train_encoder(self, model):
        """The model with an encoder, and whether to keep it in memory."""
        G, D = (
            copy.deepcopy(network).to(self.settings.device)
            for network in (model.generator, model.discriminator)
        )
        checkpoint = self._checkpoint(
            "encoder",
            {
                "random_state": model.seed,
                "gan": digest_of_weights(G.state_dict(), D.state_dict()),
            },
            # The GAN's checkpoint was checked already: an old encoder's may go.
            may_replace=lambda state: True,
        )

        def as_model(net):
            return replace(
                model,
                encoder=frozen(net.module_),
                encoder_history=copy.copy(net.history),
            )

        net = train_encoder(
            self.images,
            G,
            D,
            self.settings,
            seed=model.seed + 1,
            callbacks=self._reports("encoder", as_model),
            checkpoint=checkpoint,
            verbose=self.verbose,
        )
        return as_model(net), net.stop is not Stop.FROM_OUTSIDE

    def _units(self):
        return {
            "layout": self.images.images.layout.on_cpu(),
            "value_range": self.images.value_range,
            "samples": self.samples,
            "ruler": self.ruler,
        }

    def _reports(self, name, as_model):
        return [("report", self.report(name, as_model))] if self.report else []

    def _checkpoint(self, name, more_of_run, **options):
        if self.checkpoint_dir is None:
            return None
        path = Path(self.checkpoint_dir) / f"{name}.checkpoint"
        return Checkpoint(path, self._description | more_of_run, **options)

    def _key(self):
        """All that the trained networks depend on, for the memory."""
        if self.memory is None:
            return None
        return (
            self._description
            | {
                "max_epochs": self.settings.max_epochs,
                "random_state": None if self.has_random_seed else self.seed,
                "warm_start": self._digest_of_start,
            }
            | describe_code(self.settings)
        )

    @cached_property
    def _description(self):
        return describe_run(self.images, self.settings)

    @cached_property
    def _digest_of_start(self):
        if self.start is None:
            return None
        networks = self.start.generator, self.start.discriminator, self.start.recognizer
        return digest_of_weights(
            *(network.state_dict() for network in networks if network is not None)
        )


def train_gan(
    images, settings, *, seed, start=None, callbacks=(), checkpoint=None, verbose=0
):
    """Train a generator and a discriminator.

    Parameters
    ----------
    images : TrainingImages
        Hands out batches (n, channels, height, width) of at most ``batch_size`` images
        through ``__getitems__``.
    settings : TrainingSettings
    seed, start, verbose
        As of `TrainingRun`.
    callbacks : sequence of skorch callbacks
        In addition to the callbacks of the settings.
    checkpoint : Checkpoint or None

    Returns
    -------
    net : GANNet
        With the trained ``module_`` (the generator), ``discriminator_``,
        ``recognizer_`` and ``history``.
    """
    n_channels, height, width = images[0].shape
    for_both = {
        "n_channels": n_channels,
        "height": height,
        "width": width,
        "n_filters": settings.n_filters_for(height, width),
    }
    check_network_class("generator", settings.generator, ["latent_dim", *for_both])
    check_network_class("discriminator", settings.discriminator, for_both)
    net = GANNet(
        settings.generator,
        settings.discriminator,
        module__latent_dim=settings.latent_dim,
        **{f"module__{name}": value for name, value in for_both.items()},
        **{f"discriminator__{name}": value for name, value in for_both.items()},
        adversarial_loss=settings.adversarial_loss,
        latent_prior=settings.latent_prior,
        ema_decay=settings.ema_decay,
        self_supervision=settings.self_supervision,
        # Less momentum than Adam's own, which lets the two networks oscillate (DCGAN).
        optimizer__betas=(0.5, 0.999),
        callbacks=[*settings.callbacks, *callbacks],
        **_options_of_both_nets(images, settings),
    )

    def load_start():
        if start is None:
            return
        _load_weights(net.learner_, start.generator)
        _load_weights(net.module_, start.generator)
        _load_weights(net.discriminator_, start.discriminator)
        if start.recognizer is not None and net.recognizer_ is not None:
            _load_weights(net.recognizer_, start.recognizer)

    return _run(net, images, seed, verbose, checkpoint, "GAN", load_start)


def train_encoder(
    images,
    generator,
    discriminator,
    settings,
    *,
    seed,
    callbacks=(),
    checkpoint=None,
    verbose=0,
):
    """Train an encoder for networks that are frozen, in evaluation mode, on the device.

    Parameters
    ----------
    generator, discriminator : nn.Module
    images, settings, seed, callbacks, checkpoint, verbose
        As of `train_gan`.

    Returns
    -------
    net : EncoderNet
        With the trained ``module_`` and ``history``.
    """
    n_channels, height, width = images[0].shape
    net = EncoderNet(
        encoder_class(height, width),
        generator,
        discriminator,
        module__latent_dim=settings.latent_dim,
        module__n_channels=n_channels,
        module__height=height,
        module__width=width,
        module__n_filters=settings.n_filters_for(height, width),
        module__is_bounded=settings.latent_prior == "uniform",
        callbacks=list(callbacks),
        **_options_of_both_nets(images, settings),
    )
    return _run(net, images, seed, verbose, checkpoint, "encoder")


def _options_of_both_nets(images, settings):
    """Settings that both nets have, by their names in skorch."""
    shape = tuple(images[0].shape)
    return {
        "max_epochs": settings.n_epochs(len(images), shape),
        "batch_size": settings.n_images_of_a_batch(len(images)),
        "most_images": settings.most_images_of_an_epoch(shape),
        "lr": settings.lr,
        "decays_lr": settings.decays_lr,
        # One kernel for all weights.
        "optimizer__fused": torch.device(settings.device).type in ("cpu", "cuda"),
        "device": settings.device,
        "mixed_precision": settings.mixed_precision,
    }


@usual_torch()
@torch.enable_grad()
def _run(net, images, seed, verbose, checkpoint, name, load_start=lambda: None):
    """Train a net to its last epoch, from its checkpoint if there is one."""
    progress = tqdm(
        total=net.max_epochs,
        desc=f"Training the {name}",
        unit=" epochs",
        disable=not verbose,
    )
    device = torch.device(net.device)
    with seeded(seed, device), exact_convolutions(device), progress:
        net.callbacks.append(("forecast", Forecast(name, verbose)))
        net.callbacks.append(("progress", ProgressBar(progress)))
        if checkpoint:
            net.callbacks.append(("checkpoint", checkpoint))
        try:
            net.initialize()
            load_start()
            net.notify("on_train_begin", X=images, y=None)
            _run_epochs(net, images, checkpoint)
            net.notify("on_train_end", X=images, y=None)
        except KeyError as error:
            raise _unknown_record(error, net) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"Training the {name} with batches of {net.batch_size} images does not "
                f"fit into the memory of device {str(device)!r}. Use a smaller "
                "batch_size, fewer n_filters or smaller images."
            ) from error
    return net


def _unknown_record(error, net):
    """What to tell of a callback that asks for what is not in the history."""
    name = str(error.args[0]) if error.args else ""
    if "history" not in name and name not in ("valid_loss", "train_loss"):
        return error
    known = ", ".join(map(repr, net.record_names))
    return ValueError(
        f"A callback has failed: {name} There are no validation data. The training "
        f"records {known} and 'diversity': use monitor='generator_loss', for example."
    )


def _run_epochs(net, images, checkpoint):
    if checkpoint and checkpoint.restore(net):
        if len(net.history) < net.max_epochs:
            # Perhaps by a callback of scikit-learn: to train anew is safe.
            net.stop = Stop.FROM_OUTSIDE
        return
    net.run_epochs(images)
    if checkpoint:
        checkpoint.save(net, has_stopped=net.stop is not None)


def _load_weights(module, earlier):
    """Start from the weights of an earlier fit."""
    try:
        module.load_state_dict(earlier.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"warm_start=True continues with the {type(earlier).__name__} of the last "
            "fit, but the parameters or the image shape have changed since: "
            f"{error}"
        ) from error


def _digest_of_gan(module_, discriminator_, recognizer_, **others):
    networks = module_, discriminator_, recognizer_
    return digest_of_weights(*(each for each in networks if each is not None))
