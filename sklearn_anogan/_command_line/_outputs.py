# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What a command writes: tables and maps, each whole or not at all.

Nothing of the user is replaced: neither an input, nor a file that this library has not
written, unless --overwrite says so.
"""

import csv
import io
import os
import sys
from contextlib import contextmanager
from errno import EEXIST, ENOTDIR
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from .._files import (
    check_writable,
    identities,
    is_one_of,
    is_stream,
    unusable,
    write_whole,
)
from .._image_files import OWN
from .._warnings import warn_user
from ..inspection._drawing import in_colors, marked, own_limits
from ..inspection._examining import pages_of
from ..inspection._report import GENERATOR

#: Name of standard output.
STDOUT = Path("-")

#: A byte order mark: programs for spreadsheets know UTF-8 by it.
_MARK = "\ufeff"

#: Where a map tells its place in the folder.
_PLACE = "Place"

#: What a spreadsheet takes for the beginning of a formula.
_BEGIN_OF_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def check_outputs(args, **kinds):
    """Refuse outputs that cannot be written, before work begins.

    Parameters
    ----------
    args : Namespace
    **kinds : callable
        Name of an option -> whether a file is of the kind that the option writes.

    Raises
    ------
    OSError, ValueError
    """
    maps = getattr(args, "maps", None)
    taken = {} if maps is None else {os.path.realpath(maps): "maps"}
    for option, is_own in kinds.items():
        path = getattr(args, option)
        if path in (None, STDOUT):
            continue
        path = Path(path)
        check_writable(f"--{option}", path)
        if is_stream(path):
            continue
        where = os.path.realpath(path)
        if where in taken:
            raise ValueError(f"--{option} would replace --{taken[where]}: {path}")
        taken[where] = option
        is_empty = not path.exists() or path.stat().st_size == 0
        if not (is_empty or args.overwrite or is_own(path)):
            raise FileExistsError(
                EEXIST,
                f"--{option} would replace a file of another kind; choose another "
                "name, or add --overwrite",
                str(path),
            )


def check_inputs(args, options, inputs):
    """Refuse outputs that are inputs, whatever --overwrite says."""
    for option in options:
        path = getattr(args, option)
        if path not in (None, STDOUT) and is_one_of(path, inputs):
            raise ValueError(
                f"--{option} would replace an input, {path}. Choose another name."
            )


def is_table(path):
    """Whether a file is a table of scores."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        columns = file.readline().strip().split(",")
    return columns[0] == "file" and {"score", "p_value", "label"} <= {*columns}


def is_report(path):
    """Whether a file is a report."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return f'name="generator" content="{GENERATOR}"' in file.read(2000)


class Table:
    """Scores, p-values and labels as CSV.

    Parameters
    ----------
    paths : list of Path
        The file of each image.
    """

    def __init__(self, paths):
        self.pages = pages_of(paths)
        self.has_pages = any(page is not None for _, page in self.pages)

    def header(self):
        """The first line."""
        page = ["page"] if self.has_pages else []
        return _line(["file", *page, "score", "p_value", "label"])

    def rows(self, found):
        """Lines for the images that are found."""
        columns = found.index, found.scores, found.p_values, found.labels
        lines = []
        for i, score, p, label in zip(*columns, strict=True):
            path, page = self.pages[i]
            of_page = ["" if page is None else page] if self.has_pages else []
            name = _harmless(str(path))
            word = "anomalous" if label == -1 else "normal"
            lines.append(_line([name, *of_page, f"{score:.6g}", f"{p:.6g}", word]))
        return "".join(lines)


def _line(values):
    text = io.StringIO()
    # What ends a line is quoted in a name: here both ends that there are.
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return f"{text.getvalue()[:-2]}\n"


def _harmless(name):
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(_BEGIN_OF_FORMULA) else name


def with_screen(blocks, table):
    """Print the table row by row, before a block is passed on."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    print(table.header(), end="")
    for found in blocks:
        print(table.rows(found), end="", flush=True)
        yield found


def with_table(blocks, table, path):
    """Write the table once all blocks have been passed on."""
    lines = [_MARK, table.header()]
    for found in blocks:
        lines.append(table.rows(found))
        yield found
    # Names of files may hold what is no text.
    content = "".join(lines).encode("utf-8", errors="backslashreplace")
    with _named("--csv", path):
        write_whole(path, [content])


class MapsFolder:
    """The folder of --maps, with a picture for each image.

    Each map tells its place in the folder, so that the next run knows what to remove.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Whether files may be replaced that this library has not drawn.
    """

    def __init__(self, path, overwrite):
        self.path, self.overwrite = path, overwrite
        self.files, self.inputs = [], set()
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(ENOTDIR, "--maps is no folder", str(path))
        with _named("--maps", path):
            path.mkdir(exist_ok=True)
        check_writable("--maps", path / "map.png")

    def check_inputs(self, names, inputs, outputs):
        """Refuse to draw over inputs, other outputs, and files of another kind.

        Parameters
        ----------
        names : list of str
            Of the images.
        inputs, outputs : list of path
            Files that are not to be replaced by maps.
        """
        self.files, self.inputs = _files_of(names), identities(inputs)
        outputs = {os.path.realpath(path) for path in outputs}
        for file in self.files:
            path = self.path / file
            if not Path(os.path.realpath(path.parent)).is_relative_to(
                os.path.realpath(self.path)
            ):
                raise ValueError(f"--maps has a link that leads elsewhere: {path}")
            is_input = not identities([path]).isdisjoint(self.inputs)
            if is_input or path.is_dir() or os.path.realpath(path) in outputs:
                raise ValueError(f"--maps would replace {path}. Choose another folder.")
            if os.path.lexists(path) and not (
                self.overwrite or _place_of(path) is not None
            ):
                raise FileExistsError(
                    EEXIST,
                    "--maps would replace a file of another kind; choose another "
                    "folder, or add --overwrite",
                    str(path),
                )
        mine = {*(self.path / file for file in self.files), *self._earlier()}
        others = [path for path in self.path.glob("*.png") if path not in mine]
        if others:
            warn_user(
                f"{self.path} has {len(others)} pictures that no earlier run has drawn "
                f"for this folder, such as {min(others).name}. They stay."
            )

    def with_maps(self, blocks, heat):
        """Draw the images of each block before it is passed on.

        The maps are put into their places once all are there. Those of an earlier run
        that have no successor go last.
        """
        with TemporaryDirectory(dir=self.path, prefix=".unfinished-") as folder:
            folder = Path(folder)
            for found in blocks:
                of_each = found.index, found.pictures, found.maps
                for i, picture, one in zip(*of_each, strict=True):
                    colors = in_colors(picture, *own_limits(picture))
                    with _named("--maps", self.path / self.files[i]):
                        path = folder / self.files[i]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        _save_map(marked(colors, *heat.of(one)), path, self.files[i])
                yield found
            with _named("--maps", self.path):
                self._put(folder)

    def _put(self, folder):
        """Move new maps from a folder to their places, and remove earlier ones."""
        drawn = [file for file in self.files if (folder / file).exists()]
        earlier = self._earlier()
        for file in drawn:
            (self.path / file).parent.mkdir(parents=True, exist_ok=True)
        for file in drawn:
            os.replace(folder / file, self.path / file)
        for path in {*earlier} - {self.path / file for file in drawn}:
            if identities([path]).isdisjoint(self.inputs):
                path.unlink()

    def _earlier(self):
        """Maps that an earlier run has drawn for this folder: each tells its place."""
        return [
            path
            for path in self.path.rglob("*.png")
            if _place_of(path) == _quoted(path.relative_to(self.path))
        ]


@contextmanager
def _named(option, path):
    """Name the option in errors of files that the user has not named."""
    try:
        yield
    except OSError as error:
        raise unusable(option, path, error) from error


def _files_of(names):
    """The file of each map: the name of the image, without its suffix if possible."""
    stems = [str(Path(name).with_suffix("")) for name in names]
    folders = {str(folder) for name in names for folder in Path(name).parents}
    is_unique = len({stem.lower() for stem in stems}) == len(names)
    is_unique &= folders.isdisjoint(f"{stem}.png" for stem in stems)
    return [f"{each}.png" for each in (stems if is_unique else names)]


def _save_map(colors, path, place):
    """Write a map that tells which library has drawn it, and its place in a folder."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text(*OWN)
    text.add_text(_PLACE, _quoted(place))
    Image.fromarray(colors).save(path, pnginfo=text)


def _place_of(path):
    """The place that a map of this library tells; "" if none, None for other files."""
    from PIL import Image

    if not path.is_file() or path.is_symlink():
        return None
    try:
        with Image.open(path, formats=["PNG"]) as image:
            name, value = OWN
            is_own = image.info.get(name) == value
            return image.info.get(_PLACE, "") if is_own else None
    except Exception:  # whatever is no picture
        return None


def _quoted(place):
    """A relative path as text without any special letters."""
    return quote(os.fsencode(place))
