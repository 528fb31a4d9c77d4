"""Messages of the library, in the words of the command line."""

import ast
import re
from pathlib import Path

import pytest

import sklearn_anogan
from sklearn_anogan._command_line._words import Words

PACKAGE = Path(sklearn_anogan.__file__).parent

#: Calls that tell users of a fit or a score something. Their texts stand in the code.
CALLS = {"warn_user", "append"}

#: What the command line has no name for.
PYTHON = re.compile(
    r"\bX\b|\bnp\.|\w\(|\bn_filters\b(?!=NUMBER)|\blr\b(?!=VALUE)|\boffset_|Detector\b"
    r"|\bcall calibrate|\bpredict\b|p_values|\brandom_state\b|\bgroups=|load_images"
    r"|max_epochs\b(?!=NUMBER)"
)


def texts_of(path):
    """All texts of warnings in a file, with a number for each value in them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", None))
            if name in CALLS and isinstance(node.args[0], ast.JoinedStr | ast.Constant):
                parts = getattr(node.args[0], "values", [node.args[0]])
                texts = [str(getattr(part, "value", 5)) for part in parts]
                texts = [
                    text if isinstance(part, ast.Constant) else "5"
                    for part, text in zip(parts, texts, strict=True)
                ]
                if len(text := "".join(texts)) > 40:
                    yield text


def warnings_of_the_package():
    # Neither folds nor checkpoints are for the command line, nor rows.
    others = {"model_selection.py", "_checkpoints.py", "_columns.py"}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name not in others:
            for text in texts_of(path):
                if "Tensors" in text or "columns" in text:  # no folder holds any
                    continue
                yield pytest.param(text, id=f"{path.stem}: {text[:30]}")


@pytest.mark.parametrize("text", [*warnings_of_the_package()])
def test_no_warning_speaks_python(text):
    told = Words().translate(text)
    assert not PYTHON.search(told), told


def test_there_are_warnings():
    assert len([*warnings_of_the_package()]) > 10


def test_images_are_named():
    words = Words()
    text = "Image 2 of X has set it. Sample 1 and image 7 of X may be odd."
    assert words.translate(text) == (
        "Image 2 of X has set it. Sample 1 and image 7 of X may be odd."
    ).replace("of X", "of the folder")
    words.names = ["a.png", "b.png", "c.png"]
    assert words.translate(text) == (
        "Image c.png has set it. Sample b.png and image 7 of the folder may be odd."
    )
    assert words.translate("In the images 0 to 2 of X: no") == (
        "In the images 0 to 2 of the folder: no"
    )


@pytest.mark.parametrize(
    "text, told",
    [
        (
            "If X shows patients, parts or videos several times, tell which by "
            "fit(X, groups=labels), or keep one image of each.",
            "If the folder shows patients, parts or videos several times, tell which "
            "by --groups, or keep one image of each.",
        ),
        (
            "Use more images or a smaller n_filters.",
            "Use more images or fewer filters, by --set n_filters=NUMBER.",
        ),
        (
            "AnoGANDetector.calibrate needs at least 8 images, X has 3.",
            "The command calibrate needs at least 8 images, the folder has 3.",
        ),
        (
            "a.png cannot be read: too large. If you trust the file, set "
            "PIL.Image.MAX_IMAGE_PIXELS = None",
            "a.png cannot be read: too large. If you trust the file, pass --max-pixels",
        ),
        (
            "Lower the learning rate, lr=0.0016.",
            "Lower the learning rate, which is 0.0016, by --set lr=VALUE.",
        ),
    ],
)
def test_advice(text, told):
    assert Words().translate(text) == told
