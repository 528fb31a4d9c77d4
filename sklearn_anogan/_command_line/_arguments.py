# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Arguments of the command line."""

import argparse
import ast
from pathlib import Path

from .. import __version__
from ._commands import calibrate, fit, score

_OF_GROUPS = (
    "which images belong together, as of one part, patient or video: 'folders' if each "
    "subfolder is a group, or a CSV file with the columns file and group"
)


def parse(arguments):
    """The arguments as a namespace, with the command as ``run``."""
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_anogan",
        description="Find what is unusual in images, by normal images alone.",
        epilog="Exit codes: 0 if all went well, 1 for an error, 2 for arguments that "
        "do not fit, 3 if all went well but for files that could not be read or "
        "judged, 130 after an interruption.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="{fit,calibrate,score}")
    for run, text, add_options in (
        (fit, "fit a detector to a folder of normal images", _add_options_of_fit),
        (
            calibrate,
            "set the thresholds of a detector anew, by other normal images",
            _add_options_of_calibrate,
        ),
        (score, "judge the images of a folder", _add_options_of_score),
    ):
        command = commands.add_parser(run.__name__, help=text, description=text)
        command.set_defaults(run=run)
        add_options(command)
        _add_options_of_all(command)
    return parser.parse_args(arguments)


def _add_options_of_fit(parser):
    add = parser.add_argument
    add("folder", type=_path, help="of normal images; its subfolders are read too")
    _add_output(parser)
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--size",
        type=_size,
        default=128,
        help="height and width that images are shrunk or enlarged to, like 96x128; "
        "one number for both (default: 128)",
    )
    exclusive.add_argument(
        "--patches",
        type=_positive,
        metavar="SIDE",
        help="leave images as large as they are, and look at patches of this side",
    )
    add(
        "--color",
        choices=["auto", "grey", "rgb"],
        default="auto",
        help="auto: colours if any image has colours, and all bands of images that "
        "have more (default)",
    )
    add("--groups", metavar="folders|FILE", help=_OF_GROUPS)
    add(
        "--set",
        action="append",
        default=[],
        type=_parameter,
        metavar="NAME=VALUE",
        help="a parameter of the detector, like n_filters=16; may be repeated",
    )
    add("--seed", type=_seed, default=0, help="of random numbers (default: 0)")


def _add_options_of_calibrate(parser):
    add = parser.add_argument
    add("model", type=_path, help="file that fit has written")
    add(
        "folder",
        type=_path,
        help="of normal images that fit has not seen, of the new camera, light or "
        "material; its subfolders are read too",
    )
    _add_output(parser)
    add("--groups", metavar="folders|FILE", help=_OF_GROUPS)


def _add_options_of_score(parser):
    add = parser.add_argument
    add("model", type=_path, help="file that fit or calibrate has written")
    add("folder", type=_path, help="of images to judge; its subfolders are read too")
    add(
        "--csv",
        type=_path,
        metavar="FILE",
        help="for a table of scores and p-values: the lower, the more abnormal. '-' is "
        "the screen, and so is no --csv, --maps and --report",
    )
    add(
        "--maps",
        type=_path,
        metavar="FOLDER",
        help="for pictures of the maps; made if missing. Maps of an earlier run are "
        "removed",
    )
    add("--report", type=_path, metavar="FILE", help="for an HTML page to look at")
    add(
        "--n-images",
        type=_positive,
        default=60,
        help="images in the report (default: 60)",
    )
    add(
        "--level",
        type=_level,
        metavar="P",
        help="mark images with a p-value of at most P, about this share of normal "
        "images (default: what the detector was fitted for, about 0.05)",
    )


def _add_output(parser):
    parser.add_argument(
        "--output",
        type=_path,
        required=True,
        metavar="FILE",
        help="for the detector, like model.safetensors",
    )


def _add_options_of_all(parser):
    add = parser.add_argument
    add(
        "--strict",
        action="store_true",
        help="stop at the first file that cannot be read or judged, instead of naming "
        "such files in the end",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace outputs even if they are files of another kind; inputs never "
        "are, but for the model of calibrate",
    )
    add(
        "--max-pixels",
        type=_positive,
        metavar="N",
        help="read images of up to so many pixels; larger ones are taken for an attack "
        "(default: about 179 million)",
    )
    add("--device", default="auto", help='like "cpu" or "cuda:0"')
    add("--quiet", action="store_true", help="only errors and warnings")


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


def _path(text):
    if not text:
        raise argparse.ArgumentTypeError("the name of a file or a folder")
    return Path(text)


def _seed(text):
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError("a whole number from 0 to 4294967295")
    return int(text)


def _level(text):
    try:
        level = float(text)
    except ValueError:
        level = 0.0
    if not 0 < level <= 1:
        raise argparse.ArgumentTypeError("a number above 0 and up to 1, like 0.01")
    return level


def _parameter(text):
    """NAME=VALUE as a pair; a value that is no number or word of Python is a text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError("NAME=VALUE, like n_filters=16")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
