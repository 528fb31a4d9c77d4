"""The package is arranged as CONTRIBUTING says: layers, sizes, private names."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

import sklearn_anogan

PACKAGE = Path(sklearn_anogan.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: From the top to the bottom: a module imports only what stands below it. Modules of
#: one line know nothing of each other.
LAYERS = [
    ["__main__"],
    ["_command_line"],
    ["inspection", "persistence", "model_selection", "datasets"],
    ["_patches"],
    ["_detector"],
    ["_plain_forms"],
    ["_base", "_compat", "_findings", "_copies", "_named_callbacks"],
    ["_search", "_score", "_training"],
    ["_model", "_inference"],
    ["_calibration", "_ruler", "_samples", "_holding_out"],
    ["_units"],
    ["_images", "_networks", "_transformations", "_losses", "_devices", "_files"],
    ["_value_range"],
    ["_columns"],
    ["_plain", "_sources", "_cutting", "_image_files", "_warnings", "_types"],
]


def name_of(path):
    """The module, or the package that it is a part of."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_by(path):
    """Modules of this package that a file imports, packages as a whole."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            depth = len(path.relative_to(PACKAGE).parts)
            if node.level == depth:  # from the package itself
                names = [node.module] if node.module else [a.name for a in node.names]
                yield from (name.partition(".")[0] for name in names)


def docstring_lines(tree):
    lines = set()
    for node in ast.walk(tree):
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            lines |= {*range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    return lines


def code_lines(path):
    """Numbers of the lines that hold code: no docstring, comment or blank."""
    text = path.read_text()
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER}
    nothing |= {tokenize.INDENT, tokenize.DEDENT}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in nothing:
            lines |= {*range(token.start[0], token.end[0] + 1)}
    return lines - docstring_lines(ast.parse(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    name = name_of(path)
    if name == "__init__":
        return
    (level,) = (i for i, layer in enumerate(LAYERS) if name in layer)
    below = {module for layer in LAYERS[level + 1 :] for module in layer}
    assert {*imported_by(path)} <= below | {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) - len(docstring_lines(tree)) <= 500
    lines = code_lines(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = range(node.lineno, node.end_lineno + 1)
            assert len(lines & {*body}) <= 60, node.name


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if not name_of(path).startswith("_")],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_public_modules_use_no_private_attribute(path):
    """But for their own: of `self`, and of the class that a method is called on."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            is_dunder = node.attr.startswith("__")
            is_own = isinstance(node.value, ast.Name) and node.value.id in (
                "self",
                "cls",
            )
            assert is_dunder or is_own, f"{ast.unparse(node)}, line {node.lineno}"
