# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Training from start to end: networks, checkpoints, progress, and what went wrong."""

import copy
import inspect
import math
import pickle
import warnings
from pathlib import Path
from typing import NamedTuple

import joblib
import skorch
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from skorch.history import History
from torch import nn
from tqdm import tqdm

from . import __version__
from ._checkpoints import Checkpoint, digest_of_images, digest_of_weights
from ._devices import exact_convolutions, is_out_of_memory, seeded
from ._memory import NotKept, remember
from ._monitoring import EarlyStop, ProgressBar, StoppedFromOutside, find_problems
from ._nets import EncoderNet, GANNet
from ._networks import Encoder, check_network_class

#: ``max_epochs="auto"`` gives each network about so many steps, but never fewer epochs
#: than this.
_AUTO_STEPS = 1500
_AUTO_MIN_EPOCHS = 10


class Trained(NamedTuple):
    """What `train_networks` answers with; the networks are copies of their own."""

    generator: nn.Module
    discriminator: nn.Module
    recognizer: nn.Module
    history: History
    problems: list  # of the training, in words for its user
    seed: int  # that of the checkpoint, if training went on from one
    encoder: nn.Module | None = None
    encoder_history: History | None = None

    @classmethod
    def of(cls, gan, seed, problems=()):
        """Take from a net what is kept of it."""
        networks = (gan.module_, gan.discriminator_, gan.recognizer_)
        return cls(*map(frozen, networks), copy.copy(gan.history), [*problems], seed)

    def with_encoder(self, net):
        """The same, with an encoder."""
        return self._replace(
            encoder=frozen(net.module_), encoder_history=copy.copy(net.history)
        )


def frozen(network):
    """A copy on the CPU that is not trained any more."""
    return copy.deepcopy(network).cpu().eval().requires_grad_(False)


def train_networks(
    dataset,
    generator,
    discriminator,
    *,
    with_encoder,
    seed,
    has_random_seed=False,
    resume_from=None,
    checkpoint_dir=None,
    memory=None,
    report=None,
    adversarial_loss,
    ema_decay,
    self_supervision,
    callbacks,
    **settings,
):
    """Train a generator and a discriminator on normal images, then an encoder.

    Parameters
    ----------
    dataset : torch Dataset
        Hands out batches (n, channels, height, width) of at most ``batch_size`` images
        through ``__getitems__``.
    generator, discriminator : nn.Module classes
        See `_networks` for the contract.
    with_encoder : bool
    seed : int
        Seeds weights, batches and latent codes; the global state is left alone.
    has_random_seed : bool
        Whether a checkpoint's seed may replace it.
    resume_from : AnoGANDetector or None
        A fitted detector whose weights training starts from.
    checkpoint_dir : str, Path or None
    memory : str, Path, joblib.Memory or None
        Keeps what was trained, and what is in it is not trained again.
    report : callable or None
        ``report(name, as_trained)`` is another callback for the training of this name,
        whose net ``as_trained`` turns into a `Trained`.
    **settings
        ``latent_dim``, ``latent_prior``, ``n_filters``, ``max_epochs``, ``batch_size``,
        ``lr``, ``mixed_precision``, ``device`` and ``verbose``.

    The other parameters are those of `AnoGANDetector`.

    Returns
    -------
    trained : Trained

    Raises
    ------
    ValueError
        If the networks break their contract or do not fit ``resume_from``, or if a
        checkpoint cannot be gone on from.
    FloatingPointError
        If training diverged.
    MemoryError
        If a batch does not fit into memory.
    OSError
        If ``checkpoint_dir`` cannot be used.

    Warns
    -----
    ConvergenceWarning
        If the networks are not to be trusted, see `find_problems`.
    """
    of_gan = {
        "adversarial_loss": adversarial_loss,
        "ema_decay": ema_decay,
        "self_supervision": self_supervision,
    }
    callbacks = list(callbacks or ())
    _check_callbacks(callbacks)
    start, run = None, {}
    if checkpoint_dir is not None or memory is not None:
        run = _describe_run(dataset, generator, discriminator, callbacks, **settings)
        if resume_from is not None:
            start = digest_of_weights(
                resume_from.generator_.state_dict(),
                resume_from.discriminator_.state_dict(),
                resume_from.recognizer_.state_dict(),
            )
    key = None
    if memory is not None:
        seed_of_key = None if has_random_seed else seed
        key = run | of_gan | {"random_state": seed_of_key, "warm_start": start}
        key |= {"max_epochs": settings["max_epochs"]}
        key |= _describe_code(generator, discriminator, callbacks)

    def open_checkpoint(name, more_of_run, **options):
        if checkpoint_dir is None:
            return None
        path = Path(checkpoint_dir) / f"{name}.checkpoint"
        return Checkpoint(path, run | more_of_run, **options)

    def reports(name, as_trained):
        return [("report", report(name, as_trained))] if report else []

    def only_gan():
        checkpoint = open_checkpoint(
            "gan",
            {**of_gan, "random_state": seed, "warm_start": start},
            adopted=["random_state"] if has_random_seed else [],
            # That of the very training that is continued here.
            may_replace=lambda state: start == _digest_of_gan(**state["net"]),
        )
        own_seed = checkpoint.run["random_state"] if checkpoint else seed
        net = train_gan(
            dataset,
            generator,
            discriminator,
            **of_gan,
            **settings,
            seed=own_seed,
            callbacks=callbacks + reports("GAN", lambda net: Trained.of(net, own_seed)),
            resume_from=resume_from,
            checkpoint=checkpoint,
        )
        problems = find_problems(net, len(dataset) * dataset[0].numel())
        return _unless_stopped(net, Trained.of(net, own_seed, problems))

    trained = remember(memory, only_gan, key)
    for problem in trained.problems:
        # The stack: train_networks, _fit, fit, scikit-learn's two wrappers, the user.
        warnings.warn(problem, ConvergenceWarning, stacklevel=6)
    if not with_encoder:
        return trained

    def also_encoder():
        G, D = (
            copy.deepcopy(network).to(settings["device"])
            for network in (trained.generator, trained.discriminator)
        )
        checkpoint = open_checkpoint(
            "encoder",
            {
                "random_state": trained.seed,
                "gan": digest_of_weights(G.state_dict(), D.state_dict()),
            },
            # The GAN's checkpoint has told whether this is the same training.
            may_replace=lambda state: True,
        )
        net = train_encoder(
            dataset,
            G,
            D,
            **settings,
            seed=trained.seed + 1,
            callbacks=reports("encoder", trained.with_encoder),
            checkpoint=checkpoint,
        )
        return _unless_stopped(net, trained.with_encoder(net))

    return remember(memory, also_encoder, key and {"encoder of": key})


def _unless_stopped(net, trained):
    """Keep off the memory what scikit-learn's callbacks, not in its key, have ended."""
    if net.was_stopped:
        raise NotKept(trained)
    return trained


def train_gan(
    dataset,
    generator,
    discriminator,
    *,
    adversarial_loss,
    ema_decay,
    self_supervision,
    latent_dim,
    latent_prior,
    n_filters,
    seed,
    verbose,
    resume_from=None,
    checkpoint=None,
    **settings,
):
    """Train a generator and a discriminator; parameters as of `train_networks`.

    Returns
    -------
    net : GANNet
        With the trained ``module_`` (the generator), ``discriminator_``,
        ``recognizer_`` and ``history``.
    """
    shape = tuple(dataset[0].shape)
    for_both = dict(
        zip(("n_channels", "height", "width"), shape, strict=True), n_filters=n_filters
    )
    check_network_class("generator", generator, ["latent_dim", *for_both])
    check_network_class("discriminator", discriminator, for_both)
    net = GANNet(
        generator,
        discriminator,
        module__latent_dim=latent_dim,
        **{f"module__{name}": value for name, value in for_both.items()},
        **{f"discriminator__{name}": value for name, value in for_both.items()},
        adversarial_loss=adversarial_loss,
        latent_prior=latent_prior,
        ema_decay=ema_decay,
        self_supervision=self_supervision,
        # Less momentum than Adam's own, which lets the two networks oscillate (DCGAN).
        optimizer__betas=(0.5, 0.999),
        **_settings_of_a_net(dataset, **settings),
    )

    def prepare():
        if resume_from is not None:
            _load_weights(net.learner_, resume_from.generator_)
            _load_weights(net.module_, resume_from.generator_)
            _load_weights(net.discriminator_, resume_from.discriminator_)
            known = resume_from.recognizer_.transformations
            if len(known) == len(net.recognizer_.transformations):  # the same task
                _load_weights(net.recognizer_, resume_from.recognizer_)

    return _train(net, dataset, seed, verbose, checkpoint, "GAN", prepare)


def train_encoder(
    dataset,
    generator,
    discriminator,
    *,
    latent_dim,
    latent_prior,
    n_filters,
    seed,
    verbose,
    checkpoint=None,
    **settings,
):
    """Train an encoder for networks that are frozen, in evaluation mode, on the device.

    Returns
    -------
    net : EncoderNet
        With the trained ``module_`` and ``history``.
    """
    n_channels, height, width = dataset[0].shape
    net = EncoderNet(
        Encoder,
        generator,
        discriminator,
        module__latent_dim=latent_dim,
        module__n_channels=n_channels,
        module__height=height,
        module__width=width,
        module__n_filters=n_filters,
        module__is_bounded=latent_prior == "uniform",
        **_settings_of_a_net(dataset, **settings),
    )
    return _train(net, dataset, seed, verbose, checkpoint, "encoder")


def _settings_of_a_net(
    dataset, *, max_epochs, batch_size, lr, callbacks, device, mixed_precision
):
    """Names in skorch for the parameters that all nets share."""
    batch_size = min(batch_size, len(dataset))
    if max_epochs == "auto":
        n_batches = len(dataset) // batch_size
        max_epochs = max(_AUTO_MIN_EPOCHS, math.ceil(_AUTO_STEPS / n_batches))
    return {
        "max_epochs": max_epochs,
        "batch_size": batch_size,
        "iterator_train__shuffle": True,
        # A short last batch, of one image at worst, has no statistics for batch norm.
        "iterator_train__drop_last": True,
        "iterator_train__collate_fn": as_batch,
        "lr": lr,
        "callbacks": callbacks,
        "device": device,
        "mixed_precision": mixed_precision,
    }


@torch.inference_mode(False)
@torch.enable_grad()
def _train(net, dataset, seed, verbose, checkpoint, name, prepare=None):
    """Train a net to its last epoch, from its checkpoint if there is one."""
    progress = tqdm(
        total=net.max_epochs,
        desc=f"Training the {name}",
        unit=" epochs",
        disable=not verbose,
    )
    device = torch.device(net.device)
    with seeded(seed, device), exact_convolutions(device), progress:
        net.callbacks.append(("progress", ProgressBar(progress)))
        if checkpoint:
            net.callbacks.append(("checkpoint", checkpoint))
        try:
            net.initialize()
            if prepare:
                prepare()
            net.notify("on_train_begin", X=dataset, y=None)
            if checkpoint and checkpoint.restore(net):
                net.was_stopped = len(net.history) < net.max_epochs
            else:
                net.was_stopped = _run_epochs(net, dataset, checkpoint)
            net.notify("on_train_end", X=dataset, y=None)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"Training the {name} with batches of {net.batch_size} images does not "
                f"fit into the memory of device {str(device)!r}. Use a smaller "
                "batch_size, fewer n_filters or smaller images."
            ) from error
    return net


def _run_epochs(net, dataset, checkpoint):
    """Train, and tell whether one of scikit-learn's callbacks has ended it."""
    has_stopped, from_outside = False, False
    try:
        # Not fit(): it would take Ctrl-C for the end of training.
        net.fit_loop(dataset, epochs=net.max_epochs - len(net.history))
    except EarlyStop as stop:
        has_stopped, from_outside = True, isinstance(stop, StoppedFromOutside)
    if checkpoint:
        checkpoint.save(net, has_stopped)
    return from_outside


def as_batch(batch):
    """Collate function of a data set that hands out whole batches."""
    return batch


def _check_callbacks(callbacks):
    for callback in callbacks:
        if not hasattr(_unnamed(callback), "on_train_begin"):
            raise ValueError(
                "callbacks must hold skorch callbacks, or tuples of a name and a "
                f"callback, got {callback!r}."
            )


def _unnamed(callback):
    return callback[-1] if isinstance(callback, tuple) else callback


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


def _describe_run(
    dataset, generator, discriminator, callbacks, *, max_epochs, verbose, **settings
):
    """What the trained weights depend on, but for the number of epochs."""

    def name_of(instance_or_class):
        cls = (
            instance_or_class
            if isinstance(instance_or_class, type)
            else type(instance_or_class)
        )
        return f"{cls.__module__}.{cls.__qualname__}"

    digest = digest_of_images(dataset)[:16]
    return settings | {
        "generator": name_of(generator),
        "discriminator": name_of(discriminator),
        "callbacks": [name_of(_unnamed(callback)) for callback in callbacks],
        "device": torch.device(settings["device"]).type,
        "X": f"{len(dataset)} training images with digest {digest}",
    }


def _describe_code(generator, discriminator, callbacks):
    """What else it depends on, where a name is not enough.

    Raises
    ------
    ValueError
        If a network class or a callback cannot be pickled, or the latter not cloned.
    """
    try:
        # As they were made: an earlier training has left its traces in them.
        callbacks = clone(callbacks, safe=False)
        pickle.dumps((generator, discriminator, callbacks))
    except Exception as error:  # it may raise any
        raise ValueError(
            "With memory, network classes and callbacks have to be picklable: define "
            f"them in a module, and not within a function ({error})."
        ) from error
    return {
        "versions": (__version__, torch.__version__, skorch.__version__),
        "callbacks": joblib.hash(callbacks),
        "sources": [_source_of(network) for network in (generator, discriminator)],
    }


def _source_of(cls):
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # typed into an interpreter, or compiled
        return None


def _digest_of_gan(module_, discriminator_, recognizer_, **others):
    return digest_of_weights(module_, discriminator_, recognizer_)
