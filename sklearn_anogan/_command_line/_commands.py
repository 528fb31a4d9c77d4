# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The commands: fit, calibrate and score."""

import sys
from pathlib import Path

from sklearn.utils._optional_dependencies import check_matplotlib_support
from tqdm import tqdm

from .._detector import AnoGANDetector
from .._devices import resolve_devices
from .._patches import PatchDetector
from .._warnings import warn_user
from ..inspection._examining import Heat, check_level, examine
from ..inspection._report import gather, write_report
from ..persistence import is_detector_file, load, save
from ._outputs import (
    STDOUT,
    MapsFolder,
    Table,
    check_inputs,
    check_outputs,
    is_report,
    is_table,
    with_screen,
    with_table,
)
from ._reading import read_folder, read_groups, tell_of_left_out, why_no_use


def fit(args):
    """Fit a detector to a folder of normal images, and save it."""
    check_outputs(args, output=is_detector_file)
    detector = _make(args)
    size = args.size if args.patches is None else None
    sides = (args.patches or 1,) * 2
    folder = read_folder(args, size, args.color, lambda x: why_no_use(x, sides))
    X, groups = folder.images, read_groups(args, folder.images)
    check_inputs(args, ["output"], _inputs(args, folder))
    if len(X) < 2:
        raise ValueError(f"A fit needs at least two images, but {args.folder} has one.")
    if args.patches is not None:
        args.words.names = []  # messages may number patches
    code = tell_of_left_out(args, folder.broken, folder.others)
    _say(args, f"Fitting to {X!r} of {args.folder}.")
    detector.fit(X, **({} if groups is None else {"groups": groups}))
    _save(args, detector)
    return code


def calibrate(args):
    """Set the thresholds of a saved detector anew, and save it."""
    check_outputs(args, output=is_detector_file)
    if args.output.exists() and args.output.samefile(args.model) and not args.overwrite:
        raise ValueError(
            f"--output would replace the model, {args.model}. Choose another name, or "
            "add --overwrite."
        )
    detector = _loaded(args)
    sides = getattr(detector, "patch_shape_", (1, 1))
    folder = _read_like(detector, args, lambda x: why_no_use(x, sides))
    X, groups = folder.images, read_groups(args, folder.images)
    check_inputs(args, ["output"], _inputs(args, folder))
    code = tell_of_left_out(args, folder.broken, folder.others)
    _say(args, f"Calibrating by {X!r} of {args.folder}.")
    detector.calibrate(X, groups=groups)
    _save(args, detector)
    return code


def score(args):
    """Judge the images of a folder: a table, maps, a report."""
    maps = MapsFolder(args.maps, args.overwrite) if args.maps else None
    check_outputs(args, csv=is_table, report=is_report)
    if args.maps or args.report:
        check_matplotlib_support("Drawing of maps")
    detector = _loaded(args)
    if args.level is not None:
        check_level(detector, args.level)
    folder = _read_like(detector, args)
    X, names = folder.images, folder.names
    inputs = [args.model, *_inputs(args, folder)]
    check_inputs(args, ["csv", "report"], inputs)
    if maps:
        outputs = [
            path for path in (args.csv, args.report) if path not in (None, STDOUT)
        ]
        maps.check_inputs(names, inputs, outputs)
    failed = None if args.strict else {}
    blocks = examine(detector, X, args.level, failed)
    blocks = _with_progress(blocks, len(X), args)
    if maps:
        blocks = maps.with_maps(blocks, Heat(detector))
    if args.csv == STDOUT or not (args.csv or args.report or args.maps):
        blocks = with_screen(blocks, Table(X.paths))
    elif args.csv:
        blocks = with_table(blocks, Table(X.paths), args.csv)
    found, cards = gather(detector, blocks, args.n_images if args.report else 0)
    broken = [
        *folder.broken,
        *((names[i], args.words.translate(why)) for i, why in (failed or {}).items()),
    ]
    if args.report:
        write_report(
            args.report,
            detector,
            found,
            cards,
            names,
            f"Anomalies in {Path(args.folder).resolve().name}",
            args.level,
            model=args.model.name,
            broken=broken,
            others=folder.others,
        )
    code = tell_of_left_out(args, broken, folder.others)
    _tell_of_marked(args, found)
    return code


def _tell_of_marked(args, found):
    n, n_marked = len(found.labels), int((found.labels == -1).sum())
    _say(args, f"{n_marked} of {n} images marked as anomalous.")
    if n_marked == n > 1:
        warn_user(
            "All images are marked. Are they of the same kind as images of the fit, "
            "with as many bits?"
        )


def _make(args):
    """A detector by the options of fit."""
    resolve_devices(args.device)  # fails now rather than after the images are read
    detector = AnoGANDetector(device=args.device, random_state=args.seed)
    inner = detector.get_params()
    if args.patches is not None:
        detector = PatchDetector(detector, args.patches, random_state=args.seed)
    parameters = detector.get_params()
    for name, _ in args.set:
        if name not in parameters:
            advice = "The documentation of AnoGANDetector lists them."
            if name in inner:
                advice = f"With --patches, use --set detector__{name}."
            raise ValueError(f"--set: there is no parameter {name}. {advice}")
    detector.set_params(**dict(args.set))
    _set_verbose(detector, not args.quiet)
    return detector


def _loaded(args):
    resolve_devices(args.device)
    return load(args.model, device=args.device)


def _inputs(args, folder):
    """Files that must not be replaced: images, broken ones too, and the groups."""
    groups = getattr(args, "groups", None)
    others = [groups] if groups not in (None, "folders") else []
    return [*folder.images.paths, *(name for name, _ in folder.broken), *others]


def _read_like(detector, args, refuse=None):
    """The images of a folder, as large as those of `fit`, and with as many bands."""
    shape, size = getattr(detector, "image_shape_", None), None
    n_bands = getattr(detector, "n_channels_", 0)
    if shape is not None and len(shape) > 1:
        size, n_bands = shape[:2], (*shape, 1)[2]
    if n_bands == 0:
        raise ValueError("The detector was not fitted to images.")
    color = {1: "grey", 3: "rgb"}.get(n_bands, "auto")
    folder = read_folder(args, size, color, refuse)
    found = getattr(folder.images, "shape", (0, 0, 0, n_bands))[3:]
    if color == "auto" and found != (n_bands,):
        raise ValueError(
            f"The detector was fitted to images of {n_bands} bands, and those of "
            f"{args.folder} have {found[0] if found else 1}."
        )
    return folder


def _with_progress(blocks, n, args):
    with tqdm(total=n, unit=" images", disable=args.quiet) as progress:
        for found in blocks:
            yield found
            progress.update(len(found.scores))


def _set_verbose(detector, is_verbose):
    """Show progress, or no more: also of the detector within a `PatchDetector`."""
    for each in (detector, getattr(detector, "detector_", None)):
        if each is not None:
            names = [name for name in each.get_params() if name.endswith("verbose")]
            each.set_params(**dict.fromkeys(names, int(is_verbose)))


def _save(args, detector):
    _set_verbose(detector, False)  # who loads the detector decides
    save(detector, args.output)
    known = detector.calibration_
    what = "images that were held out" if known.is_held_out else "images of the fit"
    if known.replaced is not None:
        what = "images of this folder"
    what = f"groups of {what}" if known.has_groups else what
    message = f"Saved {args.output}. Its thresholds rest on {known.n_groups} {what}."
    _say(args, message)


def _say(args, message):
    if not args.quiet:
        print(message, file=sys.stderr)
