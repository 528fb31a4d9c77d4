# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Fit a detector to a folder of images, and judge the images of another folder.

    python -m sklearn_anogan fit FOLDER --output model.safetensors
    python -m sklearn_anogan score model.safetensors FOLDER --report report.html

Exit codes: 0 if all went well, 1 for an error, 2 for arguments that do not fit, 130
after an interruption.
"""

import argparse
import csv
import os
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path

from sklearn.utils._optional_dependencies import check_matplotlib_support
from tqdm import tqdm

from . import __version__
from ._detector import AnoGANDetector
from ._files import check_writable
from ._patches import PatchDetector
from .datasets import load_images
from .inspection._drawing import in_colors, marked, own_limits
from .inspection._examining import Heat, examine, names_of, pages_of
from .inspection._report import gather, write_report
from .persistence import load, save

_COLUMNS = ("file", "page", "score", "p_value", "label")


def main(arguments=None):
    """Run one command.

    Parameters
    ----------
    arguments : list of str, default=None
        None for those of the command line.

    Returns
    -------
    code : int
        Exit code.
    """
    args = _parse(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("default", UserWarning)
        try:
            args.run(args)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # nobody reads the rest of the table
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:  # users of a command need no traceback
            print(f"error: {_in_words(error)}", file=sys.stderr)
            return 1
    return 0


def _in_words(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error) or repr(error)


def _fit(args):
    check_writable("--output", args.output)
    size = args.size if args.patches is None else None
    X = load_images(args.folder, size, color=args.color)
    detector = AnoGANDetector(
        device=args.device, verbose=not args.quiet, random_state=args.seed
    )
    if args.patches is not None:
        detector = PatchDetector(
            detector, args.patches, verbose=not args.quiet, random_state=args.seed
        )
    _say(args, f"Fitting to {X!r} of {args.folder}.")
    detector.fit(X)
    save(detector, args.output)
    known = detector.calibration_
    what = "images that were held out" if known.is_held_out else "images of the fit"
    message = f"Saved {args.output}. Its thresholds rest on {known.n_groups} {what}."
    _say(args, message)


def _score(args):
    for option in ("csv", "report"):
        if path := getattr(args, option):
            check_writable(f"--{option}", path)
    if args.maps:
        args.maps.mkdir(exist_ok=True)
    if args.maps or args.report:
        check_matplotlib_support("Drawing of maps")
    detector = load(args.model, device=args.device)
    X = _load_like(detector, args.folder)
    _check_nothing_is_replaced(args, X.paths)
    names = names_of(X)
    blocks = _with_progress(examine(detector, X), len(X), args)
    if args.maps:
        blocks = _with_maps(blocks, Heat(detector), names, args.maps)
    with ExitStack() as stack:
        if args.csv:
            # Names of files may hold what is no text.
            options = {"encoding": "utf-8", "errors": "surrogateescape"}
            file = stack.enter_context(open(args.csv, "w", newline="", **options))
            blocks = _with_rows(blocks, file, X.paths)
        elif not (args.report or args.maps):
            blocks = _with_rows(blocks, sys.stdout, X.paths)
        found, cards = gather(detector, blocks, args.n_images if args.report else 0)
    if args.report:
        title = f"Anomalies in {Path(args.folder).resolve().name}"
        write_report(detector, found, cards, names, args.report, title)
    n_marked = int((found.labels == -1).sum())
    _say(args, f"{n_marked} of {len(X)} images marked as anomalous.")
    if n_marked == len(X) > 1:
        warnings.warn(
            "All images are marked. Are they of the same kind as images of the fit, "
            "with as many bits?",
            stacklevel=2,
        )


def _check_nothing_is_replaced(args, inputs):
    """Refuse outputs that are inputs, or the same file twice."""
    outputs = [path.resolve() for path in (args.csv, args.report) if path]
    taken = {args.model.resolve(), *(path.resolve() for path in inputs)}
    for path in outputs:
        if path in taken:
            raise ValueError(f"{path} would be replaced: choose another file.")
        taken.add(path)
    if args.maps and args.maps.resolve() in {path.resolve().parent for path in inputs}:
        raise ValueError(f"--maps would replace images of {args.folder}.")


def _load_like(detector, folder):
    """The images of a folder, as large as those of `fit`, and grey or in colour too."""
    shape, size = getattr(detector, "image_shape_", None), None
    n_channels = getattr(detector, "n_channels_", 0)
    if shape is not None and len(shape) > 1:
        size, n_channels = shape[:2], (*shape, 1)[2]
    if n_channels not in (1, 3):
        raise ValueError("The detector was not fitted to grey images, or to RGB ones.")
    return load_images(folder, size, color="rgb" if n_channels == 3 else "grey")


def _with_progress(blocks, n, args):
    with tqdm(total=n, unit=" images", disable=args.quiet) as progress:
        for found in blocks:
            yield found
            progress.update(len(found.scores))


def _with_maps(blocks, heat, names, folder):
    """Write each image with its map, before the block is passed on."""
    from PIL import Image

    stems = [name.rpartition(".")[0] or name for name in names]
    are_unique = len({*stems}) == len(names)
    for found in blocks:
        for i, picture, one in zip(
            found.index, found.pictures, found.maps, strict=True
        ):
            colors = in_colors(picture, *own_limits(picture))
            name = stems[i] if are_unique else names[i]
            Image.fromarray(marked(colors, *heat.of(one))).save(folder / f"{name}.png")
        yield found


def _with_rows(blocks, file, paths):
    """Write scores, p-values and labels as CSV, before the block is passed on."""
    if hasattr(file, "reconfigure") and file is sys.stdout:
        file.reconfigure(errors="backslashreplace")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    pages = pages_of(paths)
    for found in blocks:
        for i, *values in zip(
            found.index, found.scores, found.p_values, found.labels, strict=True
        ):
            writer.writerow([*pages[i], *values])
        file.flush()
        yield found


def _say(args, message):
    if not args.quiet:
        print(message, file=sys.stderr)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print(f"warning: {message}", file=sys.stderr)


def _size(text):
    """128 or 96x128."""
    sides = [int(side) for side in text.split("x") if side.isdecimal()]
    if len(sides) != text.count("x") + 1 or len(sides) > 2 or min(sides) < 1:
        raise argparse.ArgumentTypeError("a number, or HEIGHTxWIDTH like 96x128")
    return sides[0] if len(sides) == 1 else tuple(sides)


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number of at least 1")
    return int(text)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_anogan",
        description="Find what is unusual in images, by normal images alone.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="{fit,score}")
    fit = commands.add_parser("fit", help="fit a detector to a folder of normal images")
    fit.set_defaults(run=_fit)
    _add_options_of_fit(fit)
    score = commands.add_parser("score", help="judge the images of a folder")
    score.set_defaults(run=_score)
    _add_options_of_score(score)
    for command in (fit, score):
        command.add_argument("--device", default="auto", help='like "cpu" or "cuda:0"')
        command.add_argument(
            "--quiet", action="store_true", help="only errors and warnings"
        )
    return parser.parse_args(arguments)


def _add_options_of_fit(parser):
    add = parser.add_argument
    add("folder", help="of normal images; subfolders are not read")
    add(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="for the detector, like model.safetensors",
    )
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--size",
        type=_size,
        default=128,
        help="height and width that images are shrunk or enlarged to, like 96x128; "
        "one number for both (default: 128)",
    )
    add(
        "--patches",
        type=_positive,
        metavar="SIDE",
        help="leave images as large as they are, and look at patches of this side",
    )
    add = parser.add_argument
    add(
        "--color",
        choices=["auto", "grey", "rgb"],
        default="auto",
        help="auto: colours if any image has colours (default)",
    )
    add("--seed", type=int, default=0, help="of random numbers (default: 0)")


def _add_options_of_score(parser):
    add = parser.add_argument
    add("model", type=Path, help="file that fit has written")
    add("folder", help="of images to judge; subfolders are not read")
    add(
        "--csv",
        type=Path,
        metavar="FILE",
        help="for scores and p-values: the lower, the more abnormal; the label of an "
        "anomaly is -1. Without --csv, --maps and --report, to the screen",
    )
    add(
        "--maps",
        type=Path,
        metavar="FOLDER",
        help="for pictures of the maps; made if missing",
    )
    add("--report", type=Path, metavar="FILE", help="for an HTML page to look at")
    add(
        "--n-images",
        type=_positive,
        default=60,
        help="images in the report (default: 60)",
    )


if __name__ == "__main__":
    sys.exit(main())
