"""Contexts are made, found and chosen as the standard library's."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import subprocess
import sys
from typing import Any

import pytest

import garrison
import garrison.context

METHODS = ("fork", "spawn", "forkserver")


def run(code: str) -> str:
    program = [sys.executable, "-c", f"import garrison as mp, multiprocessing as std\n{code}"]
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("method", METHODS)
def test_a_context_is_made_once(method: str) -> None:
    ours: Any = garrison.get_context(method)
    assert ours is garrison.get_context(method) is ours.get_context() is ours.get_context(method)
    assert type(ours).__name__ == type(multiprocessing.get_context(method)).__name__
    assert isinstance(ours, garrison.context.BaseContext)
    assert isinstance(ours, type(multiprocessing.get_context(method)))
    with pytest.raises(ValueError, match="cannot set start method of concrete context"):
        ours.set_start_method("fork")


def test_the_default_context_is_the_one_of_the_start_method() -> None:
    assert garrison.get_context() is garrison.get_context(garrison.get_start_method())
    default: Any = garrison.context._default_context
    assert default._actual_context is garrison.get_context()
    assert isinstance(default, multiprocessing.context.DefaultContext)
    assert isinstance(default, garrison.context.DefaultContext)
    assert isinstance(default, garrison.context.BaseContext)


def test_functions_of_the_package_are_methods_of_the_default_context() -> None:
    for name in ("get_context", "get_start_method", "set_start_method", "Manager", "cpu_count"):
        assert getattr(garrison, name) == getattr(garrison.context._default_context, name)


def test_no_start_method_is_chosen_by_asking_whether_one_is() -> None:
    assert run("print(mp.get_start_method(allow_none=True), mp.get_start_method(True))") == (
        "None None\n"
    )


@pytest.mark.parametrize("first", ["set_start_method('spawn')", "get_context()"])
def test_the_start_method_is_chosen_once(first: str) -> None:
    code = f"""
mp.{first}
try: mp.set_start_method('fork')
except RuntimeError as error: print(error)
"""
    assert run(code) == run(code.replace("mp.", "std.")) == "context has already been set\n"


def test_the_start_method_can_be_forced_and_forgotten() -> None:
    code = """
mp.set_start_method('spawn')
mp.set_start_method('forkserver', force=True)
print(mp.get_start_method(), std.get_start_method(), type(mp.get_context()).__name__)
mp.set_start_method(None, force=True)
print(mp.get_start_method(allow_none=True), std.get_start_method(allow_none=True))
"""
    assert run(code) == "forkserver forkserver ForkServerContext\nNone None\n"


def test_multiprocessing_keeps_its_own_contexts() -> None:
    for method in METHODS:
        theirs = multiprocessing.get_context(method)
        assert type(theirs).__module__ == "multiprocessing.context"
    assert type(multiprocessing.get_context()).__module__ == "multiprocessing.context"


def test_context_with_users_process_class() -> None:
    """The recipe for pools within pools that programs have."""

    class NoDaemonProcess(garrison.get_context("fork").Process):  # type: ignore[misc]
        daemon = property(lambda self: False, lambda self, value: None)

    class NoDaemonContext(type(garrison.get_context("fork"))):  # type: ignore[misc]
        Process = NoDaemonProcess

    class NestablePool(garrison.pool.Pool):
        def __init__(self, *args: Any, **options: Any) -> None:
            options["context"] = NoDaemonContext()
            super().__init__(*args, **options)

    with NestablePool(1) as pool:
        assert pool.map(abs, [-1]) == [1]


def test_the_reducer_is_the_standard_librarys() -> None:
    assert garrison.reducer is multiprocessing.reducer
    assert garrison.get_context("fork").reducer is multiprocessing.get_context("fork").reducer
