"""Functions by value are pickled again if, and only if, something in them may have changed."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from garrison.pool._function_registry import FunctionRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator


class Store:
    """Notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def add_function(self, number: int, pickled: bytes) -> None:
        self.sent.append(number)

    def forget_function(self, number: int) -> None:
        self.sent.remove(number)


class Registry:
    """A registry for workers elsewhere, and the pickles that it makes."""

    def __init__(self) -> None:
        self.store = Store()
        self.inner = FunctionRegistry(self.store, fork=False, elsewhere=True)
        self.pickles = 0
        pickle = self.inner._pickle

        def counted(value: object, function: Any) -> bytes:
            self.pickles += 1
            return pickle(value, function)

        self.inner._pickle = counted  # type: ignore[method-assign]

    def number(self, function: Any) -> int:
        return self.inner.number(function)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """Return the namespace of a module that no worker can import."""
    module = types.ModuleType("of_this_program_only")
    sys.modules[module.__name__] = module
    yield vars(module)
    del sys.modules[module.__name__]


def defined(names: dict[str, Any], source: str) -> Any:
    exec(source, names)
    return names["task"]


@pytest.mark.parametrize(
    "source",
    [
        "def task(x): return x + 1",
        "task = lambda x: x * 2",
        "FACTOR = 3\ndef task(x): return x * FACTOR",
        "import math, os.path\ndef task(x): return math.sqrt(len(os.path.join(x)))",
        "from collections import OrderedDict\ndef task(x): return OrderedDict(x)",
        "from json import dumps\ndef task(x, indent=2): return dumps(x, indent=indent)",
        "def helper(x): return x\ndef task(x): return helper(x) + later(x)",
        "def task(x): return task(x - 1) if x else 0",
        "def task(x): return [(lambda y: y + x)(z) for z in range(x)]",
    ],
)
def test_what_cannot_change_is_pickled_once(
    registry: Registry, names: dict[str, Any], source: str
) -> None:
    task = defined(names, source)
    assert {registry.number(task) for _ in range(5)} == {1}
    assert registry.pickles == 1


@pytest.mark.parametrize(
    "source",
    [
        "SEEN = []\ndef task(x): return SEEN",
        "SEEN = ([],)\ndef task(x): return SEEN",
        "def task(x, seen=[]): return seen",
        "def task(x, *, seen=1): return seen",
        "def outer(y):\n  def task(x): return y\n  return task\ntask = outer(1)",
        "def task(x): return task.calls\ntask.calls = 0",
        "class Thing: pass\ndef task(x): return Thing()",
        "SEEN = {}\ndef helper(x): return SEEN\ndef task(x): return helper(x)",
    ],
)
def test_what_may_change_in_place_is_pickled_each_time(
    registry: Registry, names: dict[str, Any], source: str
) -> None:
    task = defined(names, source)
    for _ in range(3):
        registry.number(task)
    assert registry.pickles == 3


@pytest.mark.parametrize(
    "change",
    [
        "FACTOR = 4",
        "def helper(x): return -x",
        "helper.__code__ = (lambda x: -x).__code__",
        "helper.__defaults__ = (7,)",
        "helper.calls = 1",
        "task.__code__ = (lambda x: -x).__code__",
        "task.__defaults__ = (1,)",
        "task.__kwdefaults__ = {'y': 1}",
        "def later(x): return 0",
        "del FACTOR",
    ],
)
def test_any_change_is_seen(registry: Registry, names: dict[str, Any], change: str) -> None:
    source = (
        "FACTOR = 3\ndef helper(x): return x * FACTOR\ndef task(x): return helper(x) or later(x)"
    )
    task = defined(names, source)
    first = registry.number(task)
    exec(change, names)
    assert registry.number(task) != first


def test_a_module_that_is_loaded_later_is_seen(registry: Registry, names: dict[str, Any]) -> None:
    task = defined(names, "def task(x): return x")
    registry.number(task)
    sys.modules["just loaded"] = types.ModuleType("just loaded")
    try:
        registry.number(task)
    finally:
        del sys.modules["just loaded"]
    assert registry.pickles == 2


def test_a_function_of_the_same_name_is_another(registry: Registry, names: dict[str, Any]) -> None:
    assert registry.number(defined(names, "def task(x): return 1")) == 1
    assert registry.number(defined(names, "def task(x): return 2")) == 2


def test_no_function_is_kept_alive(registry: Registry, names: dict[str, Any]) -> None:
    task = defined(names, "def helper(x): return task\ndef task(x): return helper(x)")
    seen = weakref.ref(task), weakref.ref(names["helper"])
    registry.number(task)
    del task, names["task"], names["helper"]
    gc.collect()
    assert [each() for each in seen] == [None, None]
    assert registry.inner._unchanged == {}


def test_a_function_that_was_forgotten_is_sent_again(
    registry: Registry, names: dict[str, Any]
) -> None:
    registry.inner.MAX_FUNCTIONS = 1
    first = defined(names, "def task(x): return 1")
    registry.number(first)
    registry.number(defined(names, "def task(x): return 2"))
    assert registry.store.sent == [2]
    assert registry.number(first) == 3
