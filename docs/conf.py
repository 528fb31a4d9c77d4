"""Sphinx's settings. Nothing here needs a network, and nothing of the site does."""

import warnings
from pathlib import Path

import sklearn_anogan

project = "sklearn-anogan"
author = "The sklearn-anogan developers"
copyright = f"2026, {author}"
version = release = sklearn_anogan.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
# The execution times load scripts from elsewhere.
exclude_patterns = ["_build", "**/sg_execution_times.rst", "sg_execution_times.rst"]
templates_path = ["_templates"]
default_role = "py:obj"
suppress_warnings = ["config.cache"]  # reading_order cannot be pickled
extlinks = {"doi": ("https://doi.org/%s", "doi:%s")}
copybutton_exclude = ".linenos, .gp, .go"

autosummary_generate = True
autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "none"  # docstrings have the types
numpydoc_show_class_members = False
# Every public object has a summary, documents its parameters, what it returns, and an
# example; the examples are run by the tests.
numpydoc_validation_checks = {"GL08", "SS01", "PR01", "PR02", "PR04", "RT01", "EX01"}
numpydoc_validation_exclude = {r"\.(fit_predict|get_params|set_params|set_callbacks)$"}

#: The examples, from the first one to read to the last.
_ORDER = (
    "quickstart",
    "folder",
    "how_it_works",
    "thresholds",
    "photographs",
    "retina_patches",
    "training",
    "latent_walk",
    "grid_search",
    "outlier_detectors",
    "save_and_load",
    "dask",
)


def reading_order(filename):
    """Place of an example in the gallery."""
    return _ORDER.index(Path(filename).stem.removeprefix("plot_"))


def warnings_are_errors(gallery_conf, filename, when):
    """An example that warns stops the build."""
    warnings.simplefilter("error" if when == "before" else "default")


sphinx_gallery_conf = {
    "reset_modules": ("matplotlib", warnings_are_errors),
    "reset_modules_order": "both",
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": reading_order,
    "doc_module": ("sklearn_anogan",),
    "backreferences_dir": "api/backreferences",
    "reference_url": {"sklearn_anogan": None},
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "show_signature": False,
    "download_all_examples": False,
}

toc_object_entries_show_parents = "hide"
html_theme = "pydata_sphinx_theme"
html_title = "sklearn-anogan"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {
    page: [] for page in ("index", "auto_examples/index", "benchmarks", "changelog")
}
