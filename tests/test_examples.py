"""Every example runs without a warning and draws its figure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("plot_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", path],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figure = tmp_path / f"{path.stem.removeprefix('plot_')}.png"
    assert f"saved {figure.name}" in done.stdout
    assert figure.stat().st_size > 10_000


def test_there_are_examples():
    assert len(EXAMPLES) >= 2
