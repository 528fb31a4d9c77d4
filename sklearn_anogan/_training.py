# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Adversarial training of generator and discriminator as one skorch net."""

import inspect
import math
import threading
from contextlib import contextmanager

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog

from ._losses import ADVERSARIAL_LOSSES

#: ``max_epochs="auto"`` gives each network about so many steps, but never fewer epochs
#: than this.
_AUTO_STEPS = 1500
_AUTO_MIN_EPOCHS = 10

#: Torch's own random state is one for all threads: only one may train at a time.
_RANDOM_STATE_LOCK = threading.RLock()

#: What the history holds of every batch and, as a mean, of every epoch.
RECORDS = ("discriminator_loss", "generator_loss", "d_real", "d_fake")


@torch.inference_mode(False)
def train_gan(
    dataset,
    generator,
    discriminator,
    shape,
    *,
    latent_dim,
    latent_prior,
    n_filters,
    adversarial_loss,
    max_epochs,
    batch_size,
    lr,
    callbacks,
    device,
    verbose,
    seed,
    resume_from=None,
):
    """Train a generator and a discriminator on normal images.

    Parameters
    ----------
    dataset : torch Dataset
        Hands out batches (n, channels, height, width) of at most ``batch_size`` images
        through ``__getitems__``.
    generator, discriminator : nn.Module classes
        See `_networks` for the contract.
    shape : tuple (channels, height, width)
    resume_from : AnoGANDetector or None
        A fitted detector whose weights training starts from, and whose history it
        continues.
    seed : int
        Seeds weights, batches and latent codes; the global state is left alone.

    The other parameters are those of `AnoGANDetector`.

    Returns
    -------
    net : GANNet
        With the trained ``module_`` (the generator), ``discriminator_`` and
        ``history``.

    Raises
    ------
    ValueError
        If the networks break their contract, or do not fit ``resume_from``.
    FloatingPointError
        If training diverged.
    """
    for_both = dict(
        zip(("n_channels", "height", "width"), shape, strict=True), n_filters=n_filters
    )
    _check_class("generator", generator, ["latent_dim", *for_both])
    _check_class("discriminator", discriminator, for_both)
    for callback in callbacks or ():
        named = callback[-1] if isinstance(callback, tuple) else callback
        if not hasattr(named, "on_train_begin"):
            raise ValueError(
                "callbacks must hold skorch callbacks, or tuples of a name and a "
                f"callback, got {callback!r}."
            )
    batch_size = min(batch_size, len(dataset))
    if max_epochs == "auto":
        n_batches = len(dataset) // batch_size
        max_epochs = max(_AUTO_MIN_EPOCHS, math.ceil(_AUTO_STEPS / n_batches))
    net = GANNet(
        generator,
        discriminator,
        module__latent_dim=latent_dim,
        **{f"module__{name}": value for name, value in for_both.items()},
        **{f"discriminator__{name}": value for name, value in for_both.items()},
        adversarial_loss=adversarial_loss,
        latent_prior=latent_prior,
        lr=lr,
        # Less momentum than Adam's own, which lets the two networks oscillate (DCGAN).
        optimizer__betas=(0.5, 0.999),
        discriminator_optimizer__betas=(0.5, 0.999),
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        # A short last batch, of one image at worst, has no statistics for batch norm.
        iterator_train__drop_last=True,
        iterator_train__collate_fn=as_batch,
        callbacks=callbacks,
        device=device,
        verbose=verbose,
    )
    with torch.enable_grad(), _seeded(seed, device):
        net.initialize()
        _check_networks(net, shape, latent_dim)
        if resume_from is not None:
            _resume(net, resume_from)
        net.notify("on_train_begin", X=dataset, y=None)
        try:
            # Not fit(): it would take Ctrl-C for the end of training.
            net.fit_loop(dataset)
        except EarlyStop:
            pass
        net.notify("on_train_end", X=dataset, y=None)
    for module in (net.module_, net.discriminator_):
        if not all(value.isfinite().all() for value in module.state_dict().values()):
            raise FloatingPointError(
                f"Training diverged: the weights of {type(module).__name__} are no "
                f"longer finite after {len(net.history)} epochs. Lower the learning "
                f"rate, lr={lr}."
            )
    return net


class EarlyStop(Exception):  # noqa: N818 (not an error)
    """A callback has ended the training, for instance skorch's EarlyStopping."""


class GANNet(NeuralNet):
    """A generator (the net's ``module``) and a discriminator, trained in turn.

    Parameters
    ----------
    module : nn.Module class
        The generator; ``module__*`` are its arguments, ``module__latent_dim`` among
        them.
    discriminator : nn.Module class
        ``discriminator__*`` are its arguments.
    discriminator_optimizer : torch.optim.Optimizer class
        ``discriminator_optimizer__*`` are its arguments, ``optimizer__*`` those of the
        generator's optimizer. Both learn at the rate ``lr`` unless told otherwise.
    adversarial_loss : str
        A key of `ADVERSARIAL_LOSSES`.
    latent_prior : {"uniform", "normal"}
        Distribution of the latent codes.
    **kwargs
        As for :class:`skorch.NeuralNet`. Each batch of the iterator is a tensor of
        images, without targets.
    """

    def __init__(
        self,
        module,
        discriminator,
        *,
        discriminator_optimizer=torch.optim.Adam,
        adversarial_loss="bce",
        latent_prior="uniform",
        criterion=torch.nn.Module,  # skorch wants one; the losses are functions here
        optimizer=torch.optim.Adam,
        train_split=None,
        **kwargs,
    ):
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.adversarial_loss = adversarial_loss
        self.latent_prior = latent_prior
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            train_split=train_split,
            **kwargs,
        )

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            *(
                (name, PassthroughScoring(name, lower_is_better=None, on_train=True))
                for name in RECORDS
            ),
            ("print_log", PrintLog()),
        ]

    def notify(self, method_name, **cb_kwargs):
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as stop:
            # How skorch's callbacks end a training. Anywhere else it is Ctrl-C.
            if method_name == "on_epoch_end":
                raise EarlyStop from stop
            raise

    def initialize_module(self):
        super().initialize_module()
        self.module_.float()
        self.discriminator_ = self.initialized_instance(
            self.discriminator, self.get_params_for("discriminator")
        ).float()
        return self

    def initialize_optimizer(self, triggered_directly=None):
        # Not super(): it would give the generator's optimizer all parameters.
        for name, module in [
            ("optimizer", self.module_),
            ("discriminator_optimizer", self.discriminator_),
        ]:
            if not any(p.requires_grad for p in module.parameters()):
                raise ValueError(f"{type(module).__name__} has no parameters to train.")
            args, kwargs = self.get_params_for_optimizer(
                name, module.named_parameters()
            )
            setattr(self, name + "_", getattr(self, name)(*args, **kwargs))
        return self

    def train_step(self, x, **fit_params):
        """One step of D on a real and a generated batch, then one step of G."""
        self._set_training(True)
        discriminator_loss, generator_loss = ADVERSARIAL_LOSSES[self.adversarial_loss]
        G, D = self.module_, self.discriminator_
        x = x.to(self.device)
        G_z = G(
            sample_prior(
                len(x), self.latent_prior, self.module__latent_dim, device=self.device
            )
        )

        d_real, d_fake = D(x), D(G_z.detach())
        loss_D = discriminator_loss(d_real, d_fake)
        self._descend(loss_D, D, self.discriminator_optimizer_, x)
        loss_G = generator_loss(D(G_z))
        self._descend(loss_G, G, self.optimizer_, x)

        records = (loss_D, loss_G, d_real.sigmoid().mean(), d_fake.sigmoid().mean())
        for name, value in zip(RECORDS, records, strict=True):
            self.history.record_batch(name, value.item())
        return {"loss": loss_D + loss_G, "y_pred": G_z.detach()}

    def _descend(self, loss, module, optimizer, batch):
        """One step of the optimizer; no gradient reaches the other network."""
        optimizer.zero_grad()
        loss.backward(inputs=[p for p in module.parameters() if p.requires_grad])
        self.notify(
            "on_grad_computed",
            named_parameters=list(module.named_parameters()),
            batch=batch,
            training=True,
        )
        optimizer.step()


def sample_prior(n, latent_prior, latent_dim, *, device="cpu", rng=None):
    """Draw n latent codes from U(-1, 1) or N(0, 1), float32.

    ``rng`` is a torch.Generator, or None for torch's own random state.
    """
    z = torch.empty(n, latent_dim, device=device, dtype=torch.float32)
    if latent_prior == "uniform":
        return z.uniform_(-1, 1, generator=rng)
    return z.normal_(generator=rng)


def resolve_device(device):
    """The torch device that "auto" or a device's name stands for.

    Raises
    ------
    ValueError
        If there is no such device.
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
    """The torch devices of a list, or of a single one, as `resolve_device`."""
    if not isinstance(devices, list | tuple):
        return [resolve_device(devices)]
    if not devices:
        raise ValueError("device=[] names no device. Use 'auto' or 'cpu'.")
    return [resolve_device(device) for device in devices]


def as_batch(batch):
    """Collate function of a data set that hands out whole batches."""
    return batch


@contextmanager
def _seeded(seed, device):
    """Seed torch's random state on the CPU and on ``device``, then put it back."""
    device = torch.device(device)
    is_cuda = device.type == "cuda"
    with _RANDOM_STATE_LOCK, torch.random.fork_rng([device] if is_cuda else []):
        # Not torch.manual_seed: it seeds every other device too.
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _check_class(name, network, keywords):
    """Check that a network's class can be called as `_networks` says."""
    try:
        if not issubclass(network, torch.nn.Module):
            raise TypeError("it is none")
        inspect.signature(network).bind(**dict.fromkeys(keywords))
    except TypeError as error:
        raise ValueError(
            f"{name}={network.__name__} must be a torch.nn.Module class that takes the "
            f"keywords {', '.join(keywords)}: {error}."
        ) from error


@torch.no_grad()
def _check_networks(net, shape, latent_dim):
    """Hold the networks to the contract of `_networks`."""
    net._set_training(False)
    G, D = net.module_, net.discriminator_
    if not callable(getattr(D, "features", None)):
        raise ValueError(
            f"{type(D).__name__} needs a method or module 'features' that turns images "
            "(n, channels, height, width) into an intermediate layer (n, ...)."
        )
    z = sample_prior(2, net.latent_prior, latent_dim, device=net.device)
    x = G(z)
    _check_answer(f"{type(G).__name__}.forward", z, x, (2, *shape))
    _check_answer(f"{type(D).__name__}.features", x, D.features(x), (2, ...))
    _check_answer(f"{type(D).__name__}.forward", x, D(x), (2,))


def _check_answer(name, given, answer, wanted):
    """Check that a network answers with finite numbers of the shape wanted."""
    if not isinstance(answer, torch.Tensor):
        found = f"a {type(answer).__name__}"
    elif wanted not in (tuple(answer.shape), (*answer.shape[:1], ...)):
        found = f"a tensor of shape {tuple(answer.shape)}"
    elif not answer.isfinite().all():
        found = "NaN or infinity"
    else:
        return
    raise ValueError(
        f"{name} must turn a tensor of shape {tuple(given.shape)} into finite numbers "
        f"of shape {wanted}; it returned {found}."
    )


def _resume(net, detector):
    """Start from the weights of a fitted detector and continue its history."""
    for module, earlier in [
        (net.module_, detector.generator_),
        (net.discriminator_, detector.discriminator_),
    ]:
        try:
            module.load_state_dict(earlier.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"warm_start=True continues with the {type(earlier).__name__} of the "
                "last fit, but the parameters or the image shape have changed since: "
                f"{error}"
            ) from error
    net.history.extend(detector.history_)
