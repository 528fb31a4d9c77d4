# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Fitted detectors in files that are read without trust.

A file is a safetensors file, a format for arrays that holds nothing executable. Its
arrays are what the detector has learned in numbers. Its metadata are a JSON text with
all the rest, and the SHA-256 of arrays and text. Any reader of safetensors opens it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import sklearn
import skorch
import torch
from sklearn.utils.validation import check_is_fitted

from . import __version__
from ._detector import AnoGANDetector
from ._devices import usual_torch
from ._files import unusable, write_whole
from ._model import UnknownNameError, class_of, name_of
from ._patches import PatchDetector
from ._plain import count, expect, number, take_under
from ._plain_forms import (
    anogan_to_plain,
    patches_to_plain,
    restore_anogan,
    restore_patches,
)
from ._types import Device

__all__ = ["load", "save"]

#: Counts up when what a file holds changes its meaning.
_FORMAT = 5

#: Names in the metadata of safetensors.
_TEXT, _DIGEST = "sklearn_anogan", "sha256"

#: Prefix of the arrays of the detector inside a `PatchDetector`.
_INNER = "detector."


def save(detector: AnoGANDetector | PatchDetector, path: str | PathLike[str]) -> None:
    """Write a fitted detector to a file.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
        Fitted. The detector inside a `PatchDetector` has to be an `AnoGANDetector`.
    path : str or path
        A file that is there already is replaced once the new file is complete. Of a
        symbolic link, the file that it points to is replaced.

    Raises
    ------
    TypeError
        If the detector is another one.
    NotFittedError
        If it has not been fitted.
    OSError
        If the file cannot be written. A file that was there stays as it was.

    See Also
    --------
    load : Read it.

    Notes
    -----
    Callbacks, a `joblib.Memory` and a `RandomState` among the parameters are not saved,
    because they may be objects of any kind. The loaded detector has None instead. The
    file names the classes of a user's own networks, and `load` has to be given them.

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
    described, tensors = _describe(detector)
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
            "detector": described,
        }
    )
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    metadata = {_TEXT: text, _DIGEST: _digest(text, tensors)}
    content = safetensors.torch.save(tensors, metadata)
    try:
        write_whole(path, [content])
    except OSError as error:
        raise unusable("path", path, error) from error


@usual_torch()
def load(
    path: str | PathLike[str],
    *,
    generator: type[torch.nn.Module] | None = None,
    discriminator: type[torch.nn.Module] | None = None,
    device: Device | Sequence[Device] | None = None,
) -> AnoGANDetector | PatchDetector:
    """Read a detector from a file, without executing anything in the file.

    Parameters
    ----------
    path : str or path
        Written by `save`.
    generator, discriminator : nn.Module classes, default=None
        The classes of a user's own networks, if the detector was trained with them.
    device : str, torch.device or list of them, default=None
        Where to search, instead of the detector's own `device`. Use "cpu" if the
        detector was trained on a GPU that this machine does not have.

    Returns
    -------
    detector : AnoGANDetector or PatchDetector
        Fitted. On the same machine its scores are the same to the bit.

    Raises
    ------
    ValueError
        If the file was not written by `save`, is damaged, has another format, or does
        not fit together; if the file names a class that has not been given.
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
        detector = _restore(described["detector"], tensors, given)
        _expect_none_left(tensors)
    except (_FormatError, UnknownNameError):
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


def is_detector_file(path: str | PathLike[str]) -> bool:
    """Tell whether `save` has written a file, in whatever format."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return _TEXT in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return False


class _FormatError(ValueError):
    """Whole and undamaged, but of another format; the message says what to do."""


def _check_format(found, path):
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"its format is {found!r}")
    if found > _FORMAT:
        raise _FormatError(
            f"{path} has format {found}, this version of sklearn-anogan reads format "
            f"{_FORMAT}. Use a newer version."
        )
    if found < _FORMAT:
        raise _FormatError(
            f"{path} has format {found}, of an earlier version of sklearn-anogan; this "
            f"version reads format {_FORMAT}. Fit the detector again and save it, or "
            "load the file with the version that wrote it."
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
        raise ValueError("its SHA-256 differs from the one that it names")
    return text, tensors


def _digest(text, tensors):
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _describe(detector):
    """What JSON can say of a detector, and the detector's tensors by name."""
    if type(detector) not in (AnoGANDetector, PatchDetector):
        raise TypeError(
            f"A {type(detector).__name__} cannot be saved, but an AnoGANDetector or a "
            "PatchDetector of one. Use joblib.dump for others, and trust what you load."
        )
    check_is_fitted(detector)
    described = {
        "class": type(detector).__name__,
        "parameters": _encode_each(detector.get_params(deep=False)),
        "parameters_of_fit": [
            _encode_each(each.parameters) for each in detector.calibration_.all
        ],
        "offset_": float(detector.offset_),
    }
    if hasattr(detector, "n_features_in_"):
        described["n_features_in_"] = int(detector.n_features_in_)
    if hasattr(detector, "shift_p_value_"):
        p = detector.shift_p_value_
        described["shift_p_value_"] = None if np.isnan(p) else p
    if hasattr(detector, "feature_names_in_"):
        described["feature_names_in_"] = list(map(str, detector.feature_names_in_))
    if isinstance(detector, AnoGANDetector):
        learned, tensors = anogan_to_plain(detector)
    else:
        learned, tensors = patches_to_plain(detector)
        described["detector"], of_inner = _describe(detector.detector_)
        tensors |= {f"{_INNER}{name}": tensor for name, tensor in of_inner.items()}
    return described | {"learned": learned}, tensors


def _restore(described, tensors, given):
    """A detector from its description; takes its arrays out of ``tensors``."""
    cls = {"AnoGANDetector": AnoGANDetector, "PatchDetector": PatchDetector}[
        described["class"]
    ]
    detector = cls(**_decode_each(described["parameters"], given))
    detector.offset_ = number(described["offset_"])
    if "n_features_in_" in described:
        detector.n_features_in_ = count(described["n_features_in_"])
    if "feature_names_in_" in described:
        names = np.array(list(map(str, described["feature_names_in_"])), dtype=object)
        expect("names of features", names.shape, (detector.n_features_in_,))
        detector.feature_names_in_ = names
    if "shift_p_value_" in described:
        p = described["shift_p_value_"]
        detector.shift_p_value_ = np.nan if p is None else number(p)
        expect("whether shift_p_value_ is a share", not 0 <= (p or 0) <= 1, False)
    parameters = [_decode_each(e, given) for e in described["parameters_of_fit"]]
    of_detector = detector, described["learned"], tensors, parameters
    if cls is AnoGANDetector:
        restore_anogan(*of_detector, given)
    else:
        inner_tensors = take_under(tensors, _INNER)
        inner = _restore(described["detector"], inner_tensors, given)
        _expect_none_left(inner_tensors)
        restore_patches(*of_detector, inner)
    return detector


def _expect_none_left(tensors):
    if tensors:
        raise ValueError(f"it has more arrays than needed, such as {min(tensors)}")


def _encode_each(values):
    return {name: _encode(value) for name, value in values.items()}


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
        return {"AnoGANDetector": _encode_each(value.get_params(deep=False))}
    if isinstance(value, type):
        return {"class": name_of(value)}
    return {"unsaved": type(value).__name__}


def _decode_each(encoded, given):
    return {name: _decode(value, name, given) for name, value in encoded.items()}


def _decode(encoded, name, given):
    """The parameter of this name from JSON; a class is taken from ``given``."""
    if not isinstance(encoded, dict):
        return encoded
    ((kind, value),) = encoded.items()
    if kind == "class":
        return class_of(value, given[name])
    if kind == "AnoGANDetector":
        return AnoGANDetector(**_decode_each(value, given))
    if kind in ("tuple", "list"):
        items = [_decode(item, name, given) for item in value]
        return tuple(items) if kind == "tuple" else items
    decode: dict[str, Callable[[Any], Any]] = {
        "device": torch.device,
        "path": Path,
        "unsaved": lambda name: None,
    }
    return decode[kind](value)
