"""Public functions and methods have types for all that they take and return."""

import importlib
import inspect
from pathlib import Path

import pytest

import sklearn_anogan
from sklearn_anogan._image_files import ImageFiles

API = Path(__file__).parents[1] / "docs" / "api.rst"


def documented():
    """The objects of the API reference, and the class of what `load_images` returns."""
    module = None
    for line in API.read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule::"):
            module = importlib.import_module(line.split()[-1])
        elif line.startswith("   ") and line.strip().isidentifier():
            yield getattr(module, line.strip())
    yield ImageFiles


def public_functions():
    """Name -> function, for all that this package defines itself."""
    found = {}
    for thing in documented():
        members = [(thing.__name__, thing)]
        if inspect.isclass(thing):
            members = inspect.getmembers(thing, inspect.isroutine)
        for name, function in members:
            is_ours = str(getattr(function, "__module__", "")).startswith(
                "sklearn_anogan"
            )
            is_public = not name.startswith("_") or name in (
                "__array__",
                "__getitem__",
                "__init__",
                "__len__",
            )
            if is_ours and is_public:
                found[f"{thing.__name__}.{name}"] = function
    return found


FUNCTIONS = public_functions()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_has_types(name):
    signature = inspect.signature(FUNCTIONS[name])
    untyped = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name != "self"
    ]
    assert not untyped
    assert signature.return_annotation is not signature.empty


def test_whole_interface_is_looked_at():
    assert {
        "AnoGANDetector.__init__",
        "AnoGANDetector.fit",
        "AnoGANDetector.set_params",
        "PatchDetector.p_values",
        "AnomalyMapDisplay.from_estimator",
        "InlierSplit.split",
        "load.load",
        "make_retina.make_retina",
    } <= {*FUNCTIONS}


def test_types_are_offered_to_checkers():
    assert (Path(sklearn_anogan.__file__).parent / "py.typed").is_file()
