"""Objects of registered types: the standard library's proxies, and any methods."""

from __future__ import annotations

import asyncio
import multiprocessing.managers as standard
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison import managers
from garrison.managers import BaseManager, RemoteError, SyncManager


class Odd(Exception):
    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)
        self.second = second


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not me")


class Job:
    def leave(self) -> None:
        sys.exit(3)

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def cancel(self) -> None:
        raise asyncio.CancelledError("enough")

    def close(self) -> None:
        raise GeneratorExit

    def odd(self) -> None:
        raise Odd(1, 2)

    def unpicklable(self) -> None:
        raise Unpicklable

    def lookup(self) -> None:
        raise LookupError("mine")

    def keywords(self, /, **words: object) -> dict[str, object]:
        return words

    def numbers(self) -> list[int]:
        return [1, 2]


class Words:
    def __init__(self, /, **words: object) -> None:
        self._words = words

    def words(self) -> dict[str, object]:
        return self._words


class Cell:
    def __init__(self) -> None:
        self.content: Any = None

    def put(self, content: Any) -> None:
        self.content = content

    def read(self) -> Any:
        return self.content.get("k")


class Manager(BaseManager):
    pass


class Sync(SyncManager):
    Job: Any


class Replaced(SyncManager):
    pass


class Upper(dict[Any, Any]):
    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key.upper())


class KeyedProxy(standard.BaseProxy):
    _exposed_ = ("__getitem__", "__setitem__")

    def put(self, key: Any, value: Any) -> None:
        self._callmethod("__setitem__", (key, value))

    def look(self, key: Any) -> Any:
        return self._callmethod("__getitem__", (key,))


for _module, _prefix in ((managers, ""), (standard, "std_")):
    Manager.register(f"{_prefix}dict", dict, _module.DictProxy)
    Manager.register(f"{_prefix}list", list, _module.ListProxy)
    Manager.register(f"{_prefix}NS", _module.Namespace, _module.NamespaceProxy)
    Manager.register(f"{_prefix}Value", _module.Value, _module.ValueProxy)
    Manager.register(f"{_prefix}Array", _module.Array, _module.ArrayProxy)
    Manager.register(f"{_prefix}Job", Job, _module.AutoProxy)
Manager.register("Words", Words)
Manager.register("Cell", Cell)
Manager.register("Keyed", dict, KeyedProxy)
Manager.register("Iterator", proxytype=managers.IteratorProxy, create_method=False)
Sync.register("Job", Job, method_to_typeid={"numbers": "list"})
Replaced.register("dict", Upper, managers.DictProxy)


@pytest.fixture
def manager(request: pytest.FixtureRequest) -> Iterator[Any]:
    method = getattr(request, "param", "fork")
    with Manager(ctx=garrison.get_context(method)) as started:
        yield started
    vars(started).clear()  # pytest keeps it for a while


every_method = pytest.mark.parametrize("manager", ["fork", "spawn", "forkserver"], indirect=True)


@pytest.mark.parametrize("prefix", ["", "std_"])
@every_method
def test_exception_of_any_kind_is_raised_in_the_client_and_the_server_goes_on(
    manager: Any, prefix: str
) -> None:
    job = getattr(manager, f"{prefix}Job")()
    raised = {
        "leave": SystemExit,
        "interrupt": KeyboardInterrupt,
        "cancel": asyncio.CancelledError,
        "close": GeneratorExit,
        "odd": RemoteError,
        "unpicklable": RemoteError,
        "lookup": LookupError,
    }
    for name, kind in raised.items():
        with pytest.raises(kind) as caught:
            getattr(job, name)()
        assert type(caught.value) is kind
    assert job.numbers() == [1, 2]


def test_keyword_names_never_clash(manager: Any) -> None:
    words = dict.fromkeys(
        ("self", "name", "args", "kwds", "method", "methodname", "typeid", "timeout", "c"), 1
    )
    assert manager.Job().keywords(**words) == words
    assert manager.std_Job().keywords(**words) == words
    assert manager.Words(**words).words() == words


@pytest.mark.parametrize("prefix", ["", "std_"])
def test_the_standard_proxies_of_plain_objects(manager: Any, prefix: str) -> None:
    def make(name: str, *args: Any, **words: Any) -> Any:
        return getattr(manager, f"{prefix}{name}")(*args, **words)

    d = make("dict", a=1, self=2)
    with pytest.raises(KeyError):
        d["k"]
    assert (d.keys(), list(d), str(d)) == (["a", "self"], ["a", "self"], "{'a': 1, 'self': 2}")
    assert repr(d).startswith(f"<DictProxy object, typeid '{prefix}dict' at 0x")
    items = make("list", [1])
    items += [2]
    items *= 2
    assert (items[:], items._getvalue(), len(items)) == ([1, 2, 1, 2], [1, 2, 1, 2], 4)
    space = make("NS", y=2)
    space.x = 1
    assert (space.x, str(space)) == (1, "Namespace(x=1, y=2)")
    value = make("Value", "i", 3)
    value.value += 1
    assert (value.get(), str(value), make("Array", "i", [1, 2])[1]) == (4, "Value('i', 4)", 2)
    kinds = ("Dict", "List", "Namespace", "Value")
    for proxy, kind in zip((d, items, space, value), kinds, strict=True):
        assert isinstance(proxy, getattr(standard, f"{kind}Proxy"))
        assert isinstance(proxy, managers.BaseProxy)


def test_a_proxy_type_of_the_users_calls_methods_by_name(manager: Any) -> None:
    keyed = manager.Keyed()
    keyed.put("a", 1)
    assert (keyed.look("a"), type(keyed).__name__) == (1, "KeyedProxy")
    with pytest.raises(RemoteError, match="'pop'"):
        keyed._callmethod("pop", ("a",))


@every_method
def test_objects_of_the_server_may_refer_to_each_other(manager: Any) -> None:
    cell = manager.Cell()
    cell.put(manager.std_dict(k=5))
    assert cell.read() == 5


def test_names_of_types_that_managers_have_can_be_results() -> None:
    with Sync() as manager:
        numbers = manager.Job().numbers()
        assert isinstance(numbers, standard.ListProxy)
        numbers.append(3)
        assert numbers[:] == [1, 2, 3]


def test_a_type_is_registered_over_a_shared_container_in_that_class_alone() -> None:
    with Replaced() as replaced, Sync() as other:
        assert (replaced.dict(A=1)["a"], other.dict(A=1)["A"]) == (1, 1)
    assert isinstance(SyncManager._registry["dict"][-1], type)


def test_keywords_of_containers_never_clash() -> None:
    words = dict.fromkeys(("self", "name", "kind", "args"), 1)
    with Sync() as manager:
        assert manager.dict(**words) == words
        assert manager.Counter(**words) == words
        assert vars(manager.Namespace(**words)._getvalue()) == words


KINDS = {
    "dict": "DictProxy",
    "list": "ListProxy",
    "Namespace": "NamespaceProxy",
    "Queue": "BaseProxy",
    "JoinableQueue": "BaseProxy",
}


def test_shared_containers_are_proxies_to_programs() -> None:
    with Sync() as manager:
        made = {kind: (getattr(manager, name)(), name) for name, kind in KINDS.items()}
        made["ValueProxy"] = manager.Value("i", 1), "Value"
        made["ArrayProxy"] = manager.Array("i", [1]), "Array"
        for kind, (shared, name) in made.items():
            assert isinstance(shared, getattr(standard, kind))
            assert isinstance(shared, getattr(managers, kind))
            assert f"Proxy object, typeid {name!r} at 0x" in repr(shared).replace(
                f"[{name}]", "Proxy"
            )
            assert shared._callmethod("__repr__") == str(shared._getvalue())
        assert isinstance(manager, standard.SyncManager)


def test_namespaces_values_and_arrays_can_be_made() -> None:
    assert managers.Namespace(y=2).y == 2
    assert managers.Value("i", 1).value == 1
    assert managers.Array("i", [1, 2]).tolist() == [1, 2]
