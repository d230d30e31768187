"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
from collections.abc import Iterator
from multiprocessing.process import BaseProcess as Process
from types import ModuleType
from typing import Any

import pytest

import garrison
from optional import import_or_skip

MODULES = ["garrison"] + [
    module.name
    for module in pkgutil.walk_packages(garrison.__path__, "garrison.")
    if not module.name.endswith("__main__")
]


@pytest.fixture(autouse=True)
def _fork() -> Iterator[None]:
    """Classes of an example are found by a copy of this process alone."""
    garrison.set_start_method("fork", force=True)
    yield
    garrison.set_start_method(None, force=True)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    module = import_or_skip(name)
    for each in getattr(module, "__all__", ()):
        getattr(module, each)  # loads it, where names are loaded when they are first used
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def public_names(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield what a module gives out and garrison has made, and the methods of its classes."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not isinstance(value, type) and not inspect.isroutine(value):
            continue
        if str(value.__module__).startswith("garrison"):
            yield name, value
            if isinstance(value, type):
                yield from public_methods(name, value)


def public_methods(name: str, kind: type) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        for attribute, method in vars(base).items():
            known = inspect.isroutine(method) or isinstance(method, property)
            if base.__module__.startswith("garrison") and known and not attribute.startswith("_"):
                yield f"{name}.{attribute}", method


PUBLIC = [name for name in MODULES if not any(part.startswith("_") for part in name.split(".")[1:])]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = import_or_skip(name)
    silent = [each for each, value in public_names(module) if not (value.__doc__ or "").strip()]
    assert silent == []


WITHOUT_EXAMPLE = {"freeze_support", "get_context", "get_start_method", "set_start_method"}
"""Functions whose call is their example."""


def needs_example(name: str) -> bool:
    """Whether it is a class or function of garrison's; errors and processes have none."""
    value = getattr(garrison, name)
    if name in WITHOUT_EXAMPLE or not str(getattr(value, "__module__", "")).startswith("garrison"):
        return False
    return not (isinstance(value, type) and issubclass(value, (Exception, Process)))


@pytest.mark.parametrize("name", [name for name in garrison.__all__ if needs_example(name)])
def test_public_classes_and_functions_have_an_example(name: str) -> None:
    assert ">>>" in (getattr(garrison, name).__doc__ or "")


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [
        test for name in garrison.__all__ for test in finder.find(getattr(garrison, name), name)
    ]
    assert any(test.examples for test in tests)
