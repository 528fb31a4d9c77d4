# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What fitted detectors have learned, in a plain form for files, and back."""

from math import prod

import numpy as np

from ._calibration import PIXEL_SHARES, Calibration
from ._cutting import pair
from ._model import Model, UnknownNameError
from ._plain import count, expect
from ._score import ALWAYS_DEFINED, TERMS, defined_terms


def anogan_to_plain(detector):
    """What a detector has learned for JSON, and its tensors by name."""
    model, tensors = detector.model_.to_plain()
    calibration, more_tensors = detector.calibration_.to_plain()
    return {"model": model, "calibration": calibration}, tensors | more_tensors


def restore_anogan(detector, plain, tensors, parameters, classes):
    """Give a new detector what another one has learned; takes out the tensors.

    Parameters
    ----------
    detector : AnoGANDetector
        With `n_features_in_`.
    plain, tensors
        Of `anogan_to_plain`.
    parameters : list of dict
        Of `Calibration.from_plain`.
    classes : dict
        See `Model.from_plain`.

    Raises
    ------
    Exception
        Of any kind, if the plain form does not fit together.
    """
    detector._validate_params()
    model = Model.from_plain(plain["model"], tensors, classes)
    expect("features", detector.n_features_in_, prod(model.layout.chw))
    for each in parameters:
        expect("parameters of fit", {*each}, {*detector._calibrated_parameters()})
    names = list(map(str, plain["calibration"]["names"]))
    if unknown := {*names} - {*TERMS}:
        raise UnknownNameError(
            f"The detector's score has the term {min(unknown)!r}, which is not among "
            f"the terms of this version of sklearn-anogan: {', '.join(TERMS)}."
        )
    needed = {*ALWAYS_DEFINED} | ({"largest_deviation"} if model.ruler else set())
    expect("terms that are missing", needed - {*names}, set())
    defined = {term.name for term in defined_terms(model)}
    expect("terms that cannot be measured", {*names} - defined, set())
    detector._adopt(model)
    shapes = {name: TERMS[name].shapes(model) for name in names}
    detector.calibration_ = Calibration.from_plain(
        plain["calibration"], tensors, parameters, shapes
    )
    values = [v for each in detector.calibration_.all for v in each.held_out.values()]
    expect("whether a term is negative", min(map(np.min, values)) < 0, False)


def patches_to_plain(detector):
    """What a detector has learned for JSON, and its tensors by name.

    `detector_` is not included.
    """
    calibration, tensors = detector.calibration_.to_plain()
    plain = {"calibration": calibration}
    if hasattr(detector, "n_channels_"):
        plain["n_channels_"] = int(detector.n_channels_)
        plain["patch_shape_"] = [*map(int, detector.patch_shape_)]
    return plain, tensors


def restore_patches(detector, plain, tensors, parameters, inner):
    """Give a new detector what another one has learned; takes out the tensors.

    Parameters
    ----------
    detector : PatchDetector
    plain, tensors
        Of `patches_to_plain`.
    parameters : list of dict
        Of `Calibration.from_plain`.
    inner : detector
        Fitted to the patches.

    Raises
    ------
    Exception
        Of any kind, if the plain form does not fit together.
    """
    detector._validate_params()
    for each in parameters:
        expect("parameters of fit", {*each}, {*detector._calibrated_parameters()})
    of_maps = {}
    if "n_channels_" in plain:
        of_maps = {"map_quantiles": PIXEL_SHARES.shape}
        detector.n_channels_ = count(plain["n_channels_"])
        detector.patch_shape_ = pair([*map(count, plain["patch_shape_"])], "its patch")
    detector.detector_ = inner
    detector.calibration_ = Calibration.from_plain(
        plain["calibration"],
        tensors,
        parameters,
        {"score": of_maps},
    )
