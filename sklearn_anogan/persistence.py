# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Fitted detectors in files that are read without trust.

A file is one of safetensors, an array format that holds nothing executable. Its arrays
are the weights and the calibration; its metadata are a JSON text with all the rest and
the SHA-256 of both. It opens with any reader of safetensors.
"""

import hashlib
import json
import platform
from contextlib import nullcontext
from pathlib import Path
from uuid import uuid4

import numpy as np
import safetensors
import safetensors.torch
import sklearn
import skorch
import torch
from sklearn.utils.validation import check_is_fitted
from skorch.history import History

from . import __version__
from ._calibration import Calibration
from ._detector import _TERMS, AnoGANDetector
from ._files import unusable, write_whole
from ._images import Layout, ValueRange
from ._networks import (
    DenseDiscriminator,
    DenseGenerator,
    Discriminator,
    Encoder,
    Generator,
    Recognizer,
)
from ._patches import PatchDetector
from ._training import frozen
from ._transformations import transformations

__all__ = ["load", "save"]

#: Counts up when what a file holds changes its meaning.
_FORMAT = 1

#: Names in the metadata of safetensors.
_TEXT, _DIGEST = "sklearn_anogan", "sha256"

_NETWORKS = {
    network.__name__: network
    for network in (Generator, Discriminator, DenseGenerator, DenseDiscriminator)
}

_NUMBER_TYPES = {
    str(dtype): dtype for dtype in (torch.float32, torch.float64, torch.float16)
}


def save(detector, path):
    """Write a fitted detector to a file.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
        Fitted. The detector inside a `PatchDetector` has to be an `AnoGANDetector`.
    path : str or path
        It is replaced if it is there, once the new file is complete.

    Raises
    ------
    TypeError
        If the detector is another one.
    NotFittedError
        If it has not been fitted.
    OSError
        If the file cannot be written; an old one stays as it is.

    See Also
    --------
    load : Read it.

    Notes
    -----
    Callbacks, a `joblib.Memory` and a `RandomState` among the parameters are objects of
    any kind and not saved: the loaded detector has None in their place. The classes of
    a user's own networks are named in the file, and have to be given to `load`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.persistence import load, save
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> detector = AnoGANDetector(n_filters=4, max_epochs=20, random_state=0)
    >>> detector = detector.fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(detector, Path(folder, "detector.safetensors"))
    ...     same = load(Path(folder, "detector.safetensors"))
    >>> bool((same.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    path = Path(path)
    tensors = {}
    text = json.dumps(
        {
            "format": _FORMAT,
            "versions": {
                "sklearn_anogan": __version__,
                "torch": torch.__version__,
                "sklearn": sklearn.__version__,
                "skorch": skorch.__version__,
                "python": platform.python_version(),
            },
            "detector": _describe(detector, "", tensors),
        }
    )
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    metadata = {_TEXT: text, _DIGEST: _digest(text, tensors)}
    content = safetensors.torch.save(tensors, metadata)
    # A name of its own: others may be saving to the same path.
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.unfinished")
    try:
        write_whole(path, [content], unfinished)
    except OSError as error:
        raise unusable("path", path, error) from error


def load(path, *, generator=None, discriminator=None, device=None):
    """Read a detector from a file, of which nothing is executed.

    Parameters
    ----------
    path : str or path
        Written by `save`.
    generator, discriminator : nn.Module classes, default=None
        The classes of a user's own networks, if the detector has such.
    device : str, torch.device or list of them, default=None
        Where to search, instead of the detector's own `device`: "cpu" if it was trained
        on a GPU that is not here.

    Returns
    -------
    detector : AnoGANDetector or PatchDetector
        Fitted; it gives the same scores to the bit on the same machine.

    Raises
    ------
    ValueError
        If the file is no such file, damaged, of a newer format, or does not fit
        together; if a class that it names has not been given.
    OSError
        If it cannot be read.

    See Also
    --------
    save : Write it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.persistence import load, save
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> detector = AnoGANDetector(n_filters=4, max_epochs=20, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(detector.fit(X), Path(folder, "detector.safetensors"))
    ...     loaded = load(Path(folder, "detector.safetensors"), device="cpu")
    >>> loaded.device, loaded.predict(X).shape
    ('cpu', (50,))
    """
    content = Path(path).read_bytes()
    given = {"generator": generator, "discriminator": discriminator}
    try:
        text, tensors = _read(content)
        described = json.loads(text)
        _check_format(described["format"], path)
        detector = _restore(described["detector"], "", tensors, given)
        if tensors:
            raise ValueError(f"it has more arrays than needed, such as {min(tensors)}")
    except _FormatError:
        raise
    except Exception as error:  # a hostile file may provoke any
        raise ValueError(
            f"{path} cannot be loaded as a detector: {str(error) or repr(error)}. If "
            "save has written it, it has been damaged since: get another copy."
        ) from error
    if device is not None:
        detector.set_params(
            **{
                name: device
                for name in detector.get_params()
                if name.split("__")[-1] == "device"
            }
        )
        if isinstance(detector, PatchDetector):
            detector.detector_.set_params(device=device)
    return detector


class _FormatError(ValueError):
    """What is wrong is known, and told by itself."""


def _check_format(found, path):
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"its format is {found!r}")
    if found > _FORMAT:
        raise _FormatError(
            f"{path} has format {found}, this version of sklearn-anogan reads formats "
            f"up to {_FORMAT}. Use a newer version."
        )


def _read(content):
    """The JSON text and the arrays of a file, once they are known to be whole."""
    tensors = safetensors.torch.load(content)  # first: it checks the header
    n = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + n]).get("__metadata__") or {}
    if _TEXT not in metadata or _DIGEST not in metadata:
        raise ValueError("it has not been written by save")
    text = metadata[_TEXT]
    if _digest(text, tensors) != metadata[_DIGEST]:
        raise ValueError("its SHA-256 is another one")
    return text, tensors


def _digest(text, tensors):
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _describe(detector, prefix, tensors):
    """What JSON can say of a detector; its arrays go to ``tensors``."""
    if type(detector) not in (AnoGANDetector, PatchDetector):
        raise TypeError(
            f"A {type(detector).__name__} cannot be saved, but an AnoGANDetector or a "
            "PatchDetector of one. Use joblib.dump for others, and trust what you load."
        )
    check_is_fitted(detector)
    described = {
        "class": type(detector).__name__,
        "parameters": {
            name: _encode(value)
            for name, value in detector.get_params(deep=False).items()
        },
        "offset": float(detector.offset_),
        "has_held_out": bool(detector._has_held_out),
        "fitted_with": {
            name: _encode(value) for name, value in detector._fitted_with.items()
        },
    }
    for name in ("n_features_in_", "n_channels_"):
        if hasattr(detector, name):
            described[name] = int(getattr(detector, name))
    if hasattr(detector, "feature_names_in_"):
        described["feature_names_in_"] = list(map(str, detector.feature_names_in_))
    if isinstance(detector, PatchDetector):
        inner = _describe(detector.detector_, f"{prefix}detector.", tensors)
        tensors[f"{prefix}of_held_out"] = torch.tensor(detector._of_held_out)
        return described | {"detector": inner}
    arrays = {
        "value_range.low": detector._value_range.low,
        "value_range.high": detector._value_range.high,
        "residual_scale": detector._residual_scale,
        "calibration.mean": torch.tensor(detector._calibration.mean),
        "calibration.std": torch.tensor(detector._calibration.std),
        "held_out_terms": torch.tensor(detector._held_out_terms),
    }
    for name in ("generator", "discriminator", "recognizer", "encoder"):
        if hasattr(detector, f"{name}_"):
            network = getattr(detector, f"{name}_")
            for key, value in network.state_dict().items():
                arrays[f"{name}.{key}"] = value
    tensors |= {f"{prefix}{name}": value for name, value in arrays.items()}
    layout = detector._sample_layout
    return described | {
        "image_shape_": list(map(int, detector.image_shape_)),
        "layout": {
            "shape": list(map(int, layout.shape)),
            "chw": list(map(int, layout.chw)),
            "channels_first": bool(layout.channels_first),
            "is_tensor": layout.device is not None,
            "dtype": str(layout.dtype),
        },
        "networks": [
            _name_of(type(network))
            for network in (detector.generator_, detector.discriminator_)
        ],
        "n_filters": int(detector._fitted_n_filters),
        "prior": [detector._prior[0], int(detector._prior[1])],
        "has_task": len(detector.recognizer_.transformations) > 1,
        "has_encoder": hasattr(detector, "encoder_"),
        "start_seed": int(detector._start_seed),
        "history": _plain(detector.history_),
        "encoder_history": _plain(getattr(detector, "encoder_history_", [])),
    }


def _restore(described, prefix, tensors, given):
    """A detector from its description; takes its arrays out of ``tensors``."""
    cls = {"AnoGANDetector": AnoGANDetector, "PatchDetector": PatchDetector}[
        described["class"]
    ]
    detector = cls(**_decode_each(described["parameters"], given))
    detector._validate_params()
    detector.offset_ = _number(described["offset"])
    detector._has_held_out = bool(described["has_held_out"])
    detector._fitted_with = _decode_each(described["fitted_with"], given)
    names = {*cls._search_parameters, *cls._threshold_parameters}
    _expect("the parameters of fit", {*detector._fitted_with}, names)
    for name in ("n_features_in_", "n_channels_"):
        if name in described:
            setattr(detector, name, _count(described[name]))
    if "feature_names_in_" in described:
        names = np.array(list(map(str, described["feature_names_in_"])), dtype=object)
        detector.feature_names_in_ = names
        _expect("names of features", names.shape, (detector.n_features_in_,))
    if cls is PatchDetector:
        inner = described["detector"]
        detector._of_held_out = _take(tensors, f"{prefix}of_held_out", (None,)).numpy()
        detector.detector_ = _restore(inner, f"{prefix}detector.", tensors, given)
        return detector

    chw = tuple(map(_count, described["layout"]["chw"]))
    shape = tuple(map(_count, described["layout"]["shape"]))
    image_shape = tuple(map(_count, described["image_shape_"]))
    channels, height, width = chw
    n_values = channels * height * width
    _expect("numbers in an image", np.prod(shape, dtype=object), n_values)
    _expect("numbers in an image", np.prod(image_shape, dtype=object), n_values)
    _expect("features", detector.n_features_in_, n_values)
    detector.image_shape_ = image_shape
    detector._sample_layout = Layout(
        shape=shape,
        chw=chw,
        channels_first=bool(described["layout"]["channels_first"]),
        device=torch.device("cpu") if described["layout"]["is_tensor"] else None,
        dtype=_NUMBER_TYPES[described["layout"]["dtype"]],
    )

    def take(name, *shape):
        return _take(tensors, prefix + name, shape)

    detector._value_range = ValueRange(
        take("value_range.low", channels, 1, 1),
        take("value_range.high", channels, 1, 1),
    )
    detector._residual_scale = take("residual_scale", *chw)
    detector._held_out_terms = take("held_out_terms", None, len(_TERMS)).numpy()
    detector._prior = (
        str(described["prior"][0]),
        _count(described["prior"][1]),
    )
    detector._fitted_n_filters = _count(described["n_filters"])
    of_networks = {
        "n_channels": channels,
        "height": height,
        "width": width,
        "n_filters": detector._fitted_n_filters,
    }
    of_codes = {"latent_dim": detector._prior[1]}
    n_weights = sum(tensor.numel() for tensor in tensors.values())
    if max(of_networks["n_filters"], of_codes["latent_dim"]) > n_weights:
        raise ValueError("its networks should be larger than it is")
    names, own = described["networks"], (given["generator"], given["discriminator"])
    G, D = (_class_of(name, cls) for name, cls in zip(names, own, strict=True))

    def fill(network, build, is_ours=True):
        return _fill(build, is_ours, tensors, f"{prefix}{network}.")

    detector.generator_ = fill(
        "generator", lambda: G(**of_codes, **of_networks), names[0] in _NETWORKS
    )
    detector.discriminator_ = fill(
        "discriminator", lambda: D(**of_networks), names[1] in _NETWORKS
    )

    if described["has_task"]:
        n_units, n_features = tensors[f"{prefix}recognizer.layers.1.weight"].shape
        detector.recognizer_ = fill(
            "recognizer",
            lambda: Recognizer((n_features,), transformations(*chw), n_units),
        )
    else:
        (unchanged, *_) = transformations(*chw)
        detector.recognizer_ = frozen(Recognizer((1,), [unchanged]))
    detector.history_ = History(_rows(described["history"]))
    if described["has_encoder"]:
        detector.encoder_ = fill(
            "encoder",
            lambda: Encoder(
                **of_codes,
                **of_networks,
                is_bounded=detector._prior[0] == "uniform",
            ),
        )
        detector.encoder_history_ = History(_rows(described["encoder_history"]))
    detector._start_seed = _count(described["start_seed"] + 1) - 1
    n_terms = len(detector._columns("calibrated"))
    detector._calibration = Calibration(
        take("calibration.mean", n_terms).numpy(),
        take("calibration.std", n_terms).numpy(),
    )
    detector._explored = {}
    return detector


def _fill(build, is_ours, tensors, prefix):
    """A network with the weights under ``prefix``, which are taken out.

    Ours is built without memory of its own: whatever size the file claims, it takes no
    more than the arrays that are really there. A user's may hold more than weights.
    """
    weights = {
        name.removeprefix(prefix): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(prefix)
    }
    with torch.device("meta") if is_ours else nullcontext():
        network = build()
    own = network.state_dict()
    for name, value in weights.items():
        if name in own:
            _expect(f"the type of {prefix}{name}", value.dtype, own[name].dtype)
            _expect(f"the shape of {prefix}{name}", value.shape, own[name].shape)
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{prefix}{name} has NaN or infinity")
    network.load_state_dict(weights, assign=is_ours)
    return frozen(network)  # a copy: arrays of a file lie in memory as in the file


def _take(tensors, name, shape):
    """An array of float64 of this shape, where None stands for any length but 0."""
    tensor = tensors.pop(name)
    _expect(f"the type of {name}", tensor.dtype, torch.float64)
    wanted = tuple(
        length if length is not None else max(1, found)
        for length, found in zip(shape, tensor.shape, strict=True)
    )
    _expect(f"the shape of {name}", tuple(tensor.shape), wanted)
    if not tensor.isfinite().all():
        raise ValueError(f"{name} has NaN or infinity")
    return tensor


def _expect(what, found, wanted):
    if found != wanted:
        raise ValueError(f"{what} should be {wanted}, but is {found}")


def _count(value):
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} should be a whole number of at least 1")
    return value


def _number(value):
    if type(value) not in (int, float) or not np.isfinite(value):
        raise ValueError(f"{value!r} should be a finite number")
    return float(value)


def _rows(history):
    if not all(isinstance(row, dict) for row in history):
        raise ValueError("its history has no rows")
    return history


def _name_of(cls):
    if _NETWORKS.get(cls.__name__) is cls:
        return cls.__name__
    return f"{cls.__module__}.{cls.__qualname__}"


def _class_of(name, given):
    if name in _NETWORKS:
        return _NETWORKS[name]
    if given is None:
        raise _FormatError(
            f"The detector has networks of the class {name}, which load does not look "
            "for by itself: pass the class as generator or discriminator."
        )
    return given


def _encode(value):
    """A parameter for JSON, with its type where JSON has none."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list | np.ndarray):
        kind = "tuple" if isinstance(value, tuple) else "list"
        encoded = [_encode(item) for item in value]
        if not any(isinstance(item, dict) and "unsaved" in item for item in encoded):
            return {kind: encoded}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, AnoGANDetector):
        parameters = value.get_params(deep=False).items()
        return {"AnoGANDetector": {name: _encode(item) for name, item in parameters}}
    if isinstance(value, type):
        return {"class": _name_of(value)}
    return {"unsaved": type(value).__name__}


def _decode_each(encoded, given):
    return {name: _decode(value, name, given) for name, value in encoded.items()}


def _decode(encoded, name, given):
    """The parameter of this name from JSON; of classes, the one that is given."""
    if not isinstance(encoded, dict):
        return encoded
    ((kind, value),) = encoded.items()
    if kind == "class":
        return _class_of(value, given[name])
    if kind == "AnoGANDetector":
        return AnoGANDetector(**_decode_each(value, given))
    if kind in ("tuple", "list"):
        items = [_decode(item, name, given) for item in value]
        return tuple(items) if kind == "tuple" else items
    return {
        "device": torch.device,
        "path": Path,
        "unsaved": lambda name: None,
    }[kind](value)


def _plain(value):
    """A history for JSON, without what JSON cannot say."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        plain = {str(name): _plain(item) for name, item in value.items()}
        return {name: item for name, item in plain.items() if item is not None}
    return value if isinstance(value, bool | int | float | str) else None
