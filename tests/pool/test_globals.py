"""Globals of functions by value: sent when they have changed; what tasks change stays changed."""

from __future__ import annotations

import linecache
import types
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.pool._function_registry import WorkerImports

from .test_main import END, as_file, as_option, assert_ran_once, run

STATE = """
import garrison, os
print("begins")
class Model:
    def __init__(self, weight):
        self.weight = weight
    def __setstate__(self, state):
        with open("log", "a") as log:
            log.write("x")
        vars(self).update(state)
model, state, other = Model(3), {}, []
def init(value):
    state["value"] = value
def predict(n):
    return model.weight * n
def weigh(_):
    return model.weight + state["value"]
def remember(n):
    other.append(n)
    return list(other)
def forget():
    global other
    other = []
pool = garrison.get_context("METHOD").Pool(1, init, (10,))
assert pool.map(predict, range(50)) == [3 * n for n in range(50)]
assert pool.map(weigh, [0]) == [13]
assert [pool.apply(remember, (n,)) for n in range(3)] == [[0], [0, 1], [0, 1, 2]]
assert pool.apply(lambda: other + [state["value"], predict(1)]) == [0, 1, 2, 10, 3]
assert os.path.getsize("log") == LOADED
model.weight = 4
assert pool.map(weigh, [0]) == [14]
assert os.path.getsize("log") == 2 * LOADED
assert pool.apply(predict, (1,)) == 4
pool.apply(forget)
assert pool.apply(remember, (9,)) == [9]
other = ["new"]
assert pool.apply(remember, (9,)) == ["new", 9]
assert (state, other) == ({}, ["new"])
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("way", [as_file, as_option])
def test_state_of_a_main_module_that_is_not_imported(way: Any, method: str, tmp_path: Path) -> None:
    text = STATE.replace("METHOD", method).replace("LOADED", "1")
    assert_ran_once(run(way, text + END, tmp_path))


def test_names_of_the_guarded_block(tmp_path: Path) -> None:
    text = """
import garrison
state = {}
def put(key, value):
    state[key] = value
def helper():
    return 1
if __name__ == "__main__":
    print("begins")
    factor, calls = 5, 0
    def scale(n):
        global calls
        calls += 1
        return factor * n + helper(), calls, len(state)
    class Item:
        def value(self):
            return factor, len(state)
    for method in ("spawn", "forkserver"):
        with garrison.get_context(method).Pool(1) as pool:
            pool.apply(put, (1, 2))
            factor = 5
            assert pool.map(scale, [1, 2]) == [(6, 1, 1), (11, 2, 1)]
            pool.apply(put, (2, 2))
            assert pool.map(scale, [1]) == [(6, 3, 2)]
            factor = 6
            assert pool.map(scale, [1]) == [(7, 4, 2)]
            assert pool.apply(Item().value) == (6, 2)
            assert pool.apply(lambda: scale(0)) == (1, 5, 2)
    print("ends")
"""
    assert_ran_once(run(as_file, text, tmp_path))


def run_cell(text: str, number: int) -> dict[str, Any]:
    """Define something in a namespace that no import leads to, as a notebook's cell does."""
    name = f"<cell {number}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "a notebook"}
    exec(compile(text, name, "exec"), names)
    return names


def test_functions_of_one_namespace_share_it(context: Any) -> None:
    cell = run_cell("seen = []\ndef put(n): seen.append(n)\ndef get(): return seen\n", 1)
    with context.Pool(1, cell["put"], (0,)) as pool:
        pool.map(cell["put"], [1, 2])
        assert pool.apply(cell["get"]) == [0, 1, 2]
        assert pool.apply(run_cell("seen = []\ndef get(): return seen\n", 2)["get"]) == []
    assert cell["seen"] == []


def test_a_traceback_shows_the_lines_of_a_cell(context: Any) -> None:
    cell = run_cell("def fail(n):\n    return n / 0  # in a cell\n", 3)
    with context.Pool(1) as pool, pytest.raises(ZeroDivisionError) as caught:
        pool.apply(cell["fail"], (1,))
    assert "return n / 0  # in a cell" in str(caught.value.__cause__)


def test_a_global_that_is_a_class_or_refers_to_itself(context: Any) -> None:
    text = """
class Node:
    made = []
    def __init__(self): self.next = self; self.made.append(1)
    def check(self): return self.next is self and isinstance(self, Node) and even(4)
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
node = Node()
def check(): return node.check() and type(node) is Node, len(Node.made)
"""
    cell = run_cell(text, 4)
    with context.Pool(1) as pool:
        assert pool.apply(cell["check"]) == (True, 1)
        assert pool.apply(lambda: cell["check"]()) == (True, 1)  # noqa: PLW0108 - by value


@pytest.mark.parametrize("registered", [True, False])
def test_importable_names_are_sent_by_reference(registered: bool, tmp_path: Path) -> None:
    import importlib.util
    import sys

    (tmp_path / "plugin_of_a_test.py").write_text("def function(): pass\n")
    spec = importlib.util.spec_from_file_location(
        "plugin_of_a_test", tmp_path / "plugin_of_a_test.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module: types.ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = WorkerImports(fork=True)
    if registered:
        sys.modules["plugin_of_a_test"] = module
    try:
        assert not WorkerImports(fork=False).has(module.function)
        assert not before.has(module.function)
        assert WorkerImports(fork=True).has(module.function) is registered
        assert WorkerImports(fork=False).has(garrison.errors.WorkerDied)
        assert WorkerImports(fork=False).has(Path)
    finally:
        sys.modules.pop("plugin_of_a_test", None)


SEEN: list[int] = []


def note(value: int) -> None:
    SEEN.append(value)


def test_lambda_sees_globals_changed_by_functions_of_its_module(context: Any) -> None:
    with context.Pool(1, note, (3,)) as pool:
        assert pool.apply(lambda: list(SEEN)) == [3]
        pool.apply(note, (4,))
        assert pool.apply(lambda: [*SEEN, 0]) == [3, 4, 0]
    assert SEEN == []
