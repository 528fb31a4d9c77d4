"""Snippets of the README run, tables are those of the results, links lead somewhere.

The user guide's snippets are doctests of their own.
"""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

import sklearn_anogan
from sklearn_anogan import AnoGANDetector
from sklearn_anogan._base import DOCUMENTATION
from sklearn_anogan._command_line import _commands, main

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))

PUBLIC_MODULES = [
    "sklearn_anogan",
    "sklearn_anogan.datasets",
    "sklearn_anogan.inspection",
    "sklearn_anogan.model_selection",
    "sklearn_anogan.persistence",
]


def test_readme_runs(digits, tmp_path, monkeypatch):
    """As a user would paste it, but for a shorter training of narrower networks."""
    images, _ = digits
    for name, chosen in {
        "normal_images": images[:70],
        "new_images": images[70:90],
    }.items():
        (tmp_path / name).mkdir()
        for i, image in enumerate(chosen):
            picture = Image.fromarray((15 * image).astype(np.uint8))
            picture.save(tmp_path / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    quick = block.replace(
        "AnoGANDetector(", "AnoGANDetector(max_epochs=1, n_filters=4, "
    )
    names = {}
    exec(compile(quick, "README.md", "exec"), names)
    assert names["masks"].shape == (20, 128, 128)
    assert (tmp_path / "report.html").stat().st_size > 100_000

    (tmp_path / "report.html").unlink()
    monkeypatch.setattr(
        _commands,
        "AnoGANDetector",
        partial(AnoGANDetector, max_epochs=1, n_filters=4),
    )
    (block,) = re.findall(r"^```\n(python .*?)^```", text, re.DOTALL | re.MULTILINE)
    for line in block.splitlines():
        python, dash_m, package, *arguments = line.split()
        assert (python, dash_m, package) == ("python", "-m", "sklearn_anogan")
        assert main(arguments) == 0
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 21


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"]
)
def test_links_between_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    for link in links:
        if not urlsplit(link).scheme:
            assert ((ROOT / page).parent / link).exists(), link


def test_tables_are_those_of_the_results():
    command = [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem
)
def test_benchmarks_import_what_there_is(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith(
            "sklearn_anogan"
        ):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


class Page(HTMLParser):
    """Collects what a page links to, loads, and can be linked to at."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag in ("img", "script", "link", "source", "iframe"):
            found = attributes.get("src") or attributes.get("href")
            if found:
                self.loaded.append(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the site, built from a copy with every example executed."""
    pytest.importorskip("sphinx_gallery")
    folder = tmp_path_factory.mktemp("site")
    generated = shutil.ignore_patterns("_build", "api", "auto_examples", "*.png")
    for name in ("docs", "examples", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=generated)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", dirs_exist_ok=True)
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    done = subprocess.run(
        [*command, folder / "docs", folder / "html"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(site, path):
    """It ran without a warning, which would have stopped the build; see conf.py."""
    figure = f"{path.stem.removeprefix('plot_')}.png"
    page = (site / "auto_examples" / path.stem).with_suffix(".html")
    assert f"saved {figure}" in page.read_text(encoding="utf-8")
    assert (site.parent / "examples" / figure).stat().st_size > 10_000


@pytest.mark.slow
def test_site(site):
    """Every link within it and every picture is there; nothing comes from elsewhere."""
    site = site.resolve()
    pages = {
        path: Page(path)
        for path in site.rglob("*.html")
        if "_static" not in path.parts  # templates of the theme
    }
    assert len(pages) > 30
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert link in page.links, f"{path} loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve()
            target = path if not parts.path else target
            assert target.exists(), f"{path} links to {link}"
            if parts.fragment and target in pages:
                anchors = pages[target].anchors
                assert unquote(parts.fragment) in anchors, f"{path} links to {link}"


@pytest.mark.slow
def test_site_documents_everything(site):
    for module in map(importlib.import_module, PUBLIC_MODULES):
        for name in module.__all__:
            assert (site / "api" / f"{module.__name__}.{name}.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", sklearn_anogan.__all__)
def test_html_representation_links_into_the_site(site, name):
    link = getattr(sklearn_anogan, name)()._get_doc_link()
    assert (site / link.removeprefix(f"{DOCUMENTATION}/")).is_file()
