"""Tables and kinds of files of the command line."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import Bunch

from sklearn_anogan._command_line._outputs import (
    Table,
    is_report,
    is_table,
    with_table,
)
from sklearn_anogan.persistence import is_detector_file


def written(paths, path):
    """The table of some images, whose score is minus a third of their number."""
    n = len(paths)
    found = Bunch(
        index=np.arange(n),
        scores=np.arange(0, -n, -1) / 3,
        p_values=np.linspace(1 / 40, 1, n),
        labels=np.where(np.arange(n) == 1, -1, 1),
    )
    for _ in with_table([found], Table(paths), path):
        assert not path.exists()
    return path.read_bytes()


def test_what_a_spreadsheet_reads(tmp_path):
    """A mark for UTF-8, no formula, a word for a label, digits that tell something."""
    names = [
        "a b,c.png",
        "=1+1.png",
        "-1.png",
        "+1.png",
        "@x.png",
        "ü.png",
        "\udcff",
        "a\rb",
    ]
    content = written([Path(name) for name in names], tmp_path / "scores.csv")
    assert content.startswith(b"\xef\xbb\xbf")
    rows = [*csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))]
    assert rows[0] == ["file", "score", "p_value", "label"]
    assert [row[0] for row in rows[1:]] == [
        *(
            "a b,c.png",
            "'=1+1.png",
            "'-1.png",
            "'+1.png",
            "'@x.png",
            "ü.png",
            r"\udcff",
        ),
        "a\rb",
    ]
    assert rows[1][1:] == ["0", "0.025", "normal"]
    assert rows[2][1:] == ["-0.333333", "0.164286", "anomalous"]


def test_pages_have_a_column(tmp_path):
    paths = [Path(name) for name in ("a.tif", "a.tif", "b.png")]
    content = written(paths, tmp_path / "scores.csv").decode("utf-8-sig")
    rows = [*csv.reader(io.StringIO(content))]
    assert [row[:2] for row in rows] == [
        *(["file", "page"], ["a.tif", "0"], ["a.tif", "1"], ["b.png", ""])
    ]


@pytest.mark.parametrize("is_kind", [is_detector_file, is_report, is_table])
@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\x10", b"file,name\na,b", b"<!DOCTYPE html>", b"{}"]
)
def test_files_of_other_kinds(is_kind, content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    assert not is_kind(tmp_path / "a")


def test_tables_are_known(tmp_path):
    written([Path("a")], tmp_path / "new")
    (tmp_path / "of 0.1").write_text("file,page,score,p_value,label\na,,1,2,1\n")
    for name in ("new", "of 0.1"):
        assert is_table(tmp_path / name)
