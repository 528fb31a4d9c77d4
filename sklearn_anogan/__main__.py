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
import sys
import warnings
from pathlib import Path

from tqdm import tqdm

from . import __version__
from ._detector import AnoGANDetector
from ._patches import PatchDetector
from .datasets import load_images
from .inspection._drawing import in_colors, marked, shared_limits
from .inspection._report import (
    examine,
    gather,
    heat_and_mask,
    names_of,
    pages_of,
    write_report,
)
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
        except Exception as error:  # users of a command need no traceback
            print(f"error: {error or repr(error)}", file=sys.stderr)
            return 1
    return 0


def _fit(args):
    _check_folder_of(args.output)
    size = None if args.patches else args.size
    X = load_images(args.folder, size, color=args.color)
    detector = AnoGANDetector(
        device=args.device, verbose=not args.quiet, random_state=args.seed
    )
    if args.patches:
        detector = PatchDetector(
            detector, args.patches, verbose=not args.quiet, random_state=args.seed
        )
    _say(args, f"Fitting to {X!r} of {args.folder}.")
    detector.fit(X)
    save(detector, args.output)
    n = detector.calibration_.n_groups
    _say(args, f"Saved {args.output}. Its thresholds rest on {n} held-out images.")


def _score(args):
    for path in filter(None, (args.csv, args.report, args.maps)):
        _check_folder_of(path)
    detector = load(args.model, device=args.device)
    X = _load_like(detector, args.folder)
    for each in (detector, getattr(detector, "detector_", None)):
        if hasattr(each, "verbose"):
            each.set_params(verbose=0)  # there is a progress bar for all images
    names = names_of(X)
    blocks = _with_progress(examine(detector, X), len(X), args)
    if args.maps:
        args.maps.mkdir(exist_ok=True)
        blocks = _with_maps(blocks, detector.map_threshold(), names, args.maps)
    found, cards = gather(detector, blocks, args.n_images if args.report else 0)
    if args.report:
        title = f"Anomalies in {Path(args.folder).name}"
        write_report(detector, found, cards, names, args.report, title)
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            _write_rows(file, X.paths, found)
    elif not (args.report or args.maps):
        _write_rows(sys.stdout, X.paths, found)
    n_marked = int((found.labels == -1).sum())
    _say(args, f"{n_marked} of {len(X)} images are marked as anomalous.")


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


def _with_maps(blocks, threshold, names, folder):
    """Write each image with its map, before the block is passed on."""
    from PIL import Image

    stems = [name.rpartition(".")[0] for name in names]
    are_unique = len({*stems}) == len(names)
    for found in blocks:
        for i, picture, one in zip(
            found.index, found.pictures, found.maps, strict=True
        ):
            colors = in_colors(picture, *shared_limits([picture]))
            colors = marked(colors, *heat_and_mask(one, threshold))
            name = stems[i] if are_unique else names[i]
            Image.fromarray(colors).save(folder / f"{name}.png")
        yield found


def _write_rows(file, paths, found):
    """Scores and p-values as CSV: the lower, the more abnormal; the label -1 is one."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for (path, page), *values in zip(
        pages_of(paths), found.scores, found.p_values, found.labels, strict=True
    ):
        writer.writerow([path, page, *values])


def _check_folder_of(path):
    """Refuse a path that cannot be written before hours have been spent."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}, for {path.name}.")


def _say(args, message):
    if not args.quiet:
        print(message, file=sys.stderr)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print(f"warning: {message}", file=sys.stderr)


def _size(text):
    """128 or 96x128."""
    sides = [int(side) for side in text.split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise ValueError
    return sides[0] if len(sides) == 1 else tuple(sides)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_anogan",
        description="Find what is unusual in images, by normal images alone.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="{fit,score}")

    fit = commands.add_parser("fit", help="fit a detector to a folder of normal images")
    fit.add_argument("folder", help="with normal images, and no others")
    fit.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="for the detector"
    )
    sizes = fit.add_mutually_exclusive_group()
    sizes.add_argument(
        "--size",
        type=_size,
        default=128,
        help="height and width that images are shrunk or enlarged to, like 96x128; "
        "one number for both (default: 128)",
    )
    sizes.add_argument(
        "--patches",
        type=int,
        metavar="SIDE",
        help="leave images as large as they are, and look at patches of this side",
    )
    fit.add_argument("--color", choices=["auto", "grey", "rgb"], default="auto")
    fit.add_argument("--seed", type=int, default=0, help="of all random numbers")
    fit.set_defaults(run=_fit)

    score = commands.add_parser("score", help="judge the images of a folder")
    score.add_argument("model", type=Path, help="file that fit has written")
    score.add_argument("folder", help="with the images to judge")
    score.add_argument(
        "--csv", type=Path, metavar="FILE", help="for scores and p-values"
    )
    score.add_argument(
        "--maps", type=Path, metavar="FOLDER", help="for each image with its map"
    )
    score.add_argument(
        "--report", type=Path, metavar="FILE", help="for an HTML page to look at"
    )
    score.add_argument(
        "--n-images", type=int, default=60, help="images in the report (default: 60)"
    )
    score.set_defaults(run=_score)

    for command in (fit, score):
        command.add_argument("--device", default="auto", help='like "cpu" or "cuda:0"')
        command.add_argument("--quiet", action="store_true", help="no progress")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
