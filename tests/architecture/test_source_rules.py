"""Rules of the sources that no linter checks for us."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "napari_unet"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 400
MAX_BODY_LINES = 40
MAX_PARAMETERS = 6
MANY_PARAMETERS = {"model/unet.py: __init__", "model/standalone.py: __init__"}
"""The network's parameters are its published signature; `Architecture` is their frozen form."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> list[Function]:
    """Return all functions and methods in a source text, nested ones too."""
    nodes = ast.walk(ast.parse(source))
    return [node for node in nodes if isinstance(node, Function)]


def body_lines(function: Function) -> int:
    """Return the lines from a function's first statement to its end, without the docstring."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: Function) -> int:
    """Return how many values a caller may pass, `self` and `cls` not counted."""
    given = function.args
    named = [arg.arg for arg in [*given.posonlyargs, *given.args, *given.kwonlyargs]]
    return len([name for name in named if name not in {"self", "cls"}])


def test_the_measures_measure() -> None:
    (function,) = functions('def f(self, a, *, b=1):\n    """One.\n\n    Two."""\n    a\n\n    b\n')
    assert (body_lines(function), parameters(function)) == (3, 2)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_FILE_LINES
    too_long = {f.name: n for f in functions(source) if (n := body_lines(f)) > MAX_BODY_LINES}
    assert too_long == {}


def test_functions_have_few_parameters() -> None:
    too_many = {
        f"{path.relative_to(PACKAGE)}: {function.name}": count
        for path in MODULES
        # A command of the command line has one parameter per option, by typer's design.
        if path.parent.name != "cli"
        for function in functions(path.read_text(encoding="utf-8"))
        if (count := parameters(function)) > MAX_PARAMETERS
    }
    assert set(too_many) <= MANY_PARAMETERS, too_many


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    names = {path.stem for path in MODULES}
    assert names.isdisjoint({"utils", "helpers", "misc", "common", "tools"})


def test_nothing_tracked_names_a_place_outside_the_repository() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # Put together here, so that this file does not find itself.
    private = ["/" + "work/", "../" + "shared", "/" + "opt/", "/" + "root/", "/" + "home/"]
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix not in {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cff", ".json", ""}:
            continue
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            found += [f"{name}: {word}" for word in private if word in text]
    assert found == []
