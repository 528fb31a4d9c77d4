# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a training depends on, in words and digests: for checkpoints and the memory."""

import inspect
import pickle
from dataclasses import fields

import joblib
import skorch
import torch
from sklearn.base import clone

from .. import __version__
from ._adversarial import ADVERSARIAL_LOSSES
from ._checkpoints import digest_of_images
from ._settings import unnamed

#: Settings that are not described by their own values.
_NOT_PLAIN = {"generator", "discriminator", "callbacks", "device", "max_epochs"}


def describe_run(images, settings):
    """What the trained weights depend on, except the seed.

    The number of epochs is left out if the weights of an epoch do not depend on how
    many there will be.

    Parameters
    ----------
    images : TrainingImages
    settings : TrainingSettings

    Returns
    -------
    description : dict
        Strings and numbers under names that users know.
    """
    digest = digest_of_images(images)[:16]
    names = {field.name for field in fields(settings)} - _NOT_PLAIN
    if settings.decays_lr:  # by the number of epochs
        names |= {"max_epochs"}
    return {name: getattr(settings, name) for name in sorted(names)} | {
        "generator": _name_of(settings.generator),
        "discriminator": _name_of(settings.discriminator),
        "callbacks": [_name_of(type(unnamed(each))) for each in settings.callbacks],
        "device": torch.device(settings.device).type,
        "X": f"{len(images)} training images with digest {digest}",
    }


def describe_code(settings):
    """Versions, callbacks and source code, which the name of a class does not tell.

    Raises
    ------
    ValueError
        If a network class or a callback cannot be pickled, or a callback not cloned.
    """
    networks = settings.generator, settings.discriminator
    loss = ADVERSARIAL_LOSSES[settings.adversarial_loss]
    try:
        # Clones: an earlier training has changed the state of the callbacks.
        callbacks = clone([*settings.callbacks], safe=False)
        pickle.dumps((networks, callbacks))
    except Exception as error:  # it may raise any
        raise ValueError(
            "With memory, network classes and callbacks have to be picklable: define "
            f"them in a module, and not within a function ({error})."
        ) from error
    return {
        "versions": (__version__, torch.__version__, skorch.__version__),
        "callbacks": joblib.hash(callbacks),
        "sources": [_source_of(cls) for cls in (*networks, type(loss))],
    }


def check_callbacks(callbacks):
    """Refuse what is no skorch callback.

    Raises
    ------
    ValueError
    """
    for callback in callbacks:
        if not hasattr(unnamed(callback), "on_train_begin"):
            raise ValueError(
                "callbacks must hold skorch callbacks, or tuples of a name and a "
                f"callback, got {callback!r}."
            )


def _name_of(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


def _source_of(cls):
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # typed into an interpreter, or compiled
        return None
