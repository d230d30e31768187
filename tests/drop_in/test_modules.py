"""Every module of the standard library's package is found in garrison, with all its names."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import garrison

WINDOWS = {"popen_spawn_win32"}
MODULES = sorted(
    {
        module.name.partition(".")[2]
        for module in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing.")
    }
    - WINDOWS
)


def both(name: str) -> tuple[Any, Any]:
    ours = importlib.import_module(f"garrison.{name}")
    return ours, importlib.import_module(f"multiprocessing.{name}")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_all_names_of_the_standard_one(name: str) -> None:
    ours, theirs = both(name)
    assert [each for each in dir(theirs) if not hasattr(ours, each)] == []
    assert set(dir(theirs)) <= set(dir(ours))


@pytest.mark.parametrize("name", MODULES)
def test_star_import_has_the_standard_names(name: str) -> None:
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    exec(f"from garrison.{name} import *", ours)
    exec(f"from multiprocessing.{name} import *", theirs)
    assert theirs.keys() <= ours.keys()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_an_attribute_of_its_package(name: str) -> None:
    parent, _, child = f"garrison.{name}".rpartition(".")
    assert getattr(importlib.import_module(parent), child) is both(name)[0]


def test_the_package_has_all_names_of_the_standard_one() -> None:
    names = {each for each in dir(multiprocessing) if not each.startswith("__")}
    assert [each for each in names if not hasattr(garrison, each)] == []
    assert set(multiprocessing.__all__) <= set(garrison.__all__) <= set(dir(garrison))


@pytest.mark.parametrize("name", ["process", "util", "spawn", "reduction", "resource_tracker"])
def test_a_module_without_a_difference_is_the_standard_one(name: str) -> None:
    """What a program assigns there (a counter, an executable) is seen by the code that reads it."""
    ours, theirs = both(name)
    assert ours is theirs


def test_variable_of_a_standard_module_has_its_present_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = both("pool")
    monkeypatch.setattr(theirs, "job_counter", "changed")
    assert ours.job_counter == "changed"


@pytest.mark.parametrize("name", ["garrison", "garrison.queues", "garrison.pool"])
def test_an_unknown_name_is_refused(name: str) -> None:
    module = importlib.import_module(name)
    with pytest.raises(AttributeError, match=f"'{name}' has no attribute 'Qeueu'"):
        module.Qeueu  # noqa: B018


def test_importing_garrison_loads_no_module_in_which_the_two_differ() -> None:
    code = "import garrison, sys; print(*[m for m in sys.modules if m.startswith('multi')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    differ = {"pool", "queues", "synchronize", "sharedctypes", "shared_memory", "managers", "dummy"}
    assert not differ & {each.partition(".")[2] for each in done.stdout.split()}
    assert "multiprocessing.context" in done.stdout


def test_every_public_name_that_is_loaded_late_is_there() -> None:
    code = "from garrison import *; import garrison; print(set(garrison.__all__) - set(globals()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_package_has_no_public_name_beside_all() -> None:
    code = "import garrison; print(*[n for n in vars(garrison) if n[0] != '_'], sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {
        "sys",
        "importlib",
        "Any",
        "annotations",
        "lazily",
        "context",
        "SUBDEBUG",
        "SUBWARNING",
    }
    assert set(done.stdout.split()) - set(garrison.__all__) <= modules
