"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import garrison

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
    module = importlib.import_module(name)
    for each in getattr(module, "__all__", ()):
        getattr(module, each)  # loads it, where names are loaded when they are first used
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert any(test.examples for test in tests)
