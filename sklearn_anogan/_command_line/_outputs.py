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
from errno import EEXIST
from pathlib import Path
from tempfile import TemporaryDirectory

from .._files import check_writable, is_one_of, is_stream, write_whole
from .._image_files import OWN
from .._warnings import warn_user
from ..inspection._drawing import in_colors, marked, own_limits
from ..inspection._examining import pages_of
from ..inspection._report import GENERATOR
from ..persistence import is_detector_file

#: Name of standard output.
STDOUT = "-"

#: A byte order mark: programs for spreadsheets know UTF-8 by it.
_MARK = "\ufeff"

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


def is_detector(path):
    """Whether a file holds a saved detector."""
    return is_detector_file(path)


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
            lines.append(_line([name, *of_page, f"{score:.6g}", f"{p:.4g}", word]))
        return "".join(lines)


def _line(values):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


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
    write_whole(path, ["".join(lines).encode("utf-8", errors="backslashreplace")])


class MapsFolder:
    """The folder of --maps, with a picture for each image.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Whether files may be replaced that this library has not drawn.
    """

    def __init__(self, path, overwrite):
        self.path, self.overwrite = path, overwrite
        path.mkdir(exist_ok=True)
        check_writable("--maps", path / "map.png")

    def check_inputs(self, paths, names):
        """Refuse to draw over images, and over files of another kind."""
        folder = self.path.resolve()
        if folder in {path.resolve().parent for path in paths}:
            raise ValueError(f"--maps would replace images of {folder}.")
        self.files = _files_of(names)
        kept = [path for path in self._pictures() if not _is_own_map(path)]
        mine = {self.path / file for file in self.files}
        if not self.overwrite and (taken := [path for path in kept if path in mine]):
            raise FileExistsError(
                EEXIST,
                "--maps would replace a file of another kind; choose another folder, "
                "or add --overwrite",
                str(taken[0]),
            )
        if others := [path for path in kept if path not in mine]:
            warn_user(
                f"{self.path} has {len(others)} pictures that are no maps of this "
                f"library, such as {others[0].name}. They stay."
            )

    def with_maps(self, blocks, heat):
        """Draw the images of each block before it is passed on.

        Maps of an earlier run go once all new maps are there.
        """
        with TemporaryDirectory(dir=self.path, prefix=".unfinished-") as folder:
            folder = Path(folder)
            for found in blocks:
                of_each = found.index, found.pictures, found.maps
                drawn = []
                for i, picture, one in zip(*of_each, strict=True):
                    colors = in_colors(picture, *own_limits(picture))
                    file = folder / self.files[i]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    _save_map(marked(colors, *heat.of(one)), file)
                    drawn.append(self.files[i])
                yield found
            for path in self._pictures():
                if _is_own_map(path):
                    path.unlink()
            for path in sorted(folder.rglob("*.png")):
                target = self.path / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)

    def _pictures(self):
        return sorted(
            path
            for path in self.path.rglob("*.png")
            if not any(
                part.startswith(".") for part in path.relative_to(self.path).parts
            )
        )


def _files_of(names):
    """The file of each map: the name of the image, without its suffix if possible."""
    stems = [str(Path(name).with_suffix("")) for name in names]
    is_unique = len({stem.lower() for stem in stems}) == len(names)
    return [f"{each}.png" for each in (stems if is_unique else names)]


def _save_map(colors, path):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text(*OWN)
    Image.fromarray(colors).save(path, pnginfo=text)


def _is_own_map(path):
    from PIL import Image

    try:
        with Image.open(path) as image:
            name, value = OWN
            return image.info.get(name) == value
    except Exception:  # whatever is no picture
        return False
