"""The stubs of the core match the core, and have docstrings; they are not read at run time."""

from __future__ import annotations

import ast
import inspect
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import _core

FOLDER = Path(garrison.__file__).parent / "_core"
FOR_CHECKERS = {"Id", "SlotInfo", "Statistics", "StoreHooks"}
"""Names of types, which are no part of the core itself."""

Stub = ast.ClassDef | ast.FunctionDef | ast.AnnAssign


def name_of(node: Stub) -> str:
    if isinstance(node, ast.AnnAssign):
        assert isinstance(node.target, ast.Name)
        return node.target.id
    return node.name


def stubs() -> dict[str, Stub]:
    """Return what the files describe, by dotted name."""
    found: dict[str, Stub] = {}
    for path in sorted(FOLDER.glob("*.pyi")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, Stub):
                found[name_of(node)] = node
            if isinstance(node, ast.ClassDef):
                found |= {
                    f"{node.name}.{name_of(each)}": each
                    for each in node.body
                    if isinstance(each, Stub)
                }
    return found


STUBS = stubs()
FUNCTIONS = {
    name: node
    for name, node in STUBS.items()
    if isinstance(node, ast.FunctionDef)
    and name.partition(".")[0] not in FOR_CHECKERS
    and not name.endswith("__")
    and not node.decorator_list
}


def core_names() -> set[str]:
    """Return the names of the core, and the methods of its classes."""
    names = {name for name in dir(_core) if not name.startswith("__")}
    for name in sorted(names):
        value = getattr(_core, name)
        if isinstance(value, type):
            own = (each for base in value.__mro__[:-1] for each in vars(base))
            names |= {f"{name}.{each}" for each in own if not each.startswith("__")}
    return names


def test_an_extension_is_imported_not_the_folder_of_its_stubs() -> None:
    assert FOLDER.is_dir()
    assert str(_core.__file__).endswith(tuple(EXTENSION_SUFFIXES))


def test_the_core_has_all_that_its_stubs_describe() -> None:
    missing = {
        name
        for name in STUBS
        if name.partition(".")[0] not in FOR_CHECKERS and not name.endswith("__")
    } - core_names()
    assert missing == set()


def test_the_stubs_describe_all_that_the_core_has() -> None:
    inherited = {
        f"{name}.{method.partition('.')[2]}"
        for name, node in STUBS.items()
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        for method in STUBS
        if isinstance(base, ast.Name) and method.startswith(f"{base.id}.")
    }
    hidden = {name for name in core_names() if name.endswith("._after_fork")}
    assert core_names() - set(STUBS) - inherited - hidden == set()


def test_everything_in_the_stubs_has_a_docstring() -> None:
    assert [
        name
        for name, node in STUBS.items()
        if not isinstance(node, ast.AnnAssign)
        and not name.endswith("__")
        and not any("setter" in ast.dump(each) for each in getattr(node, "decorator_list", ()))
        and ast.get_docstring(node) is None
    ] == []


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_parameters_are_those_of_the_core(name: str) -> None:
    value: Any = _core
    for part in name.split("."):
        value = getattr(value, part)
    arguments = FUNCTIONS[name].args
    expected = list(inspect.signature(value).parameters)
    told = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    told += [each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None]
    if not arguments.posonlyargs:
        assert told == expected
    assert len(told) == len(expected)
