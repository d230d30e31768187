"""CPython's own tests of dict, list, set, deque and Counter, run on the containers."""

from __future__ import annotations

import gc
import sys
import unittest
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from garrison.store import Counter, Deque, Dict, List, Set

support: Any = pytest.importorskip("test.support")
mapping_tests: Any = pytest.importorskip("test.mapping_tests")
list_tests: Any = pytest.importorskip("test.list_tests")
test_set: Any = pytest.importorskip("test.test_set")
test_deque: Any = pytest.importorskip("test.test_deque")
test_collections: Any = pytest.importorskip("test.test_collections")


class Made:
    """A container that makes its container itself, as the plain type does."""

    store: ClassVar[Any] = None
    _kind: ClassVar[int]

    def __init__(self, iterable: Any = ()) -> None:
        values = list(iterable)
        self._begin()
        self._backend.list_extend(self._container_id, values)

    def __reduce__(self) -> Any:
        return _again, (type(self), self._backend, self._container_id)

    def __repr__(self) -> str:
        return str(self)

    def _begin(self, aux: int = -1) -> None:
        if not hasattr(self, "_container_id"):
            self._backend = self.store
            self._container_id = self.store.create(self._kind, aux)
        self._backend.clear(self._container_id)


def _again(kind: Any, store: Any, c: int) -> Any:
    made = kind.__new__(kind)
    made._backend, made._container_id = store, c
    return made


class MadeDict(Made, Dict):  # type: ignore[type-arg]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pairs = dict(*args, **kwargs)
        self._begin()
        self.update(pairs)


class MadeList(Made, List):  # type: ignore[type-arg]
    pass


class MadeSet(Made, Set):  # type: ignore[type-arg]
    def __init__(self, iterable: Any = ()) -> None:
        self._begin()
        self.update(iterable)


class MadeDeque(Made, Deque):  # type: ignore[type-arg]
    def __init__(self, iterable: Any = (), maxlen: int | None = None) -> None:
        if maxlen is not None and maxlen < 0:
            raise ValueError("maxlen must be non-negative")
        self._begin(-1 if maxlen is None else maxlen)
        self.extend(iterable)


class MadeCounter(Made, Counter):  # type: ignore[type-arg]
    def __init__(self, iterable: Any = None, /, **kwargs: Any) -> None:
        self._begin()
        self.update(iterable, **kwargs)


class DictTests(mapping_tests.TestHashMappingProtocol):  # type: ignore[misc] # untyped
    __test__ = False  # by `test_container_passes_cpythons_tests` alone
    type2test = MadeDict


class ListTests(list_tests.CommonTest):  # type: ignore[misc] # untyped
    __test__ = False  # by `test_container_passes_cpythons_tests` alone
    type2test = MadeList


class SetTests(test_set.TestSet):  # type: ignore[misc] # untyped
    __test__ = False  # by `test_container_passes_cpythons_tests` alone
    thetype = MadeSet


class DequeTests(test_deque.TestBasic):  # type: ignore[misc] # untyped
    __test__ = False  # by `test_container_passes_cpythons_tests` alone


class DequeSequenceTests(test_deque.TestSequence):  # type: ignore[misc] # untyped
    __test__ = False  # by `test_container_passes_cpythons_tests` alone
    type2test = MadeDeque


class CounterTests(test_collections.TestCounter):  # type: ignore[misc] # untyped
    __test__ = False  # by `test_container_passes_cpythons_tests` alone


SUITES: list[Any] = [DictTests, ListTests, SetTests, DequeTests, DequeSequenceTests, CounterTests]

COPY = "copy() and fromkeys() give plain objects, as a manager's proxies do"
VALUE = "what is stored is a copy: of an object only its equality is left, not its identity"
LOCAL = "an object of a local class cannot be a key between processes"
SNAPSHOT = "an iterator walks over a snapshot, and does not keep the container"
PLAIN = "it is about the plain type itself: its size, its iterators' classes, its subclasses"
PICKLE = "what a container is pickled as is plain, and is no part of itself"

EXCLUDED = {
    "DictTests.test_copy": COPY,
    "DictTests.test_eq": LOCAL,
    "DictTests.test_fromkeys": COPY,
    "DictTests.test_getitem": LOCAL,
    "DictTests.test_pop": LOCAL,
    "DictTests.test_setdefault": LOCAL,
    "ListTests.test_extend": "an iterable that says it has 2**63 items is believed",
    "ListTests.test_exhausted_iterator": SNAPSHOT,
    "ListTests.test_free_after_iterating": SNAPSHOT,
    "ListTests.test_index": VALUE,
    "ListTests.test_remove": VALUE,
    "ListTests.test_sort": "a key function that changes the list has done so before it is sorted",
    "SetTests.test_badcmp": VALUE,
    "SetTests.test_cyclical_repr": VALUE,
    "SetTests.test_deepcopy": LOCAL,
    "SetTests.test_do_not_rehash_dict_keys": VALUE,
    "SetTests.test_free_after_iterating": SNAPSHOT,
    "SetTests.test_hash_collision_remove_add": VALUE,
    "SetTests.test_iterator_pickling": SNAPSHOT,
    "SetTests.test_pickling": PICKLE,
    "DequeTests.test_contains": VALUE,
    "DequeTests.test_contains_count_index_stop_crashes": VALUE,
    "DequeTests.test_contains_count_stop_crashes": VALUE,
    "DequeTests.test_copy": VALUE,
    "DequeTests.test_count": VALUE,
    "DequeTests.test_deepcopy": VALUE,
    "DequeTests.test_index": VALUE,
    "DequeTests.test_remove": VALUE,
    "DequeTests.test_iterator_pickle": PICKLE,
    "DequeTests.test_pickle_recursive": PICKLE,
    "DequeTests.test_reversed_new": PLAIN,
    "DequeTests.test_sizeof": PLAIN,
    "CounterTests.test_basics": PLAIN,
    "CounterTests.test_update_reentrant_add_clears_counter": VALUE,
    "CounterTests.test_copy_subclass": COPY,
    "CounterTests.test_copying": COPY,
    "CounterTests.test_helper_function": PLAIN,
    "CounterTests.test_inplace_operations": COPY,
}
if sys.version_info < (3, 11):
    EXCLUDED["ListTests.test_copy"] = "int.from_bytes makes small numbers anew there"
if sys.version_info >= (3, 14):
    EXCLUDED["ListTests.test_repr_deep"] = "it makes as many lists as the C stack is deep"


def cases() -> list[Any]:
    return [
        pytest.param(suite, name, id=f"{suite.__name__}.{name}")
        for suite in SUITES
        for name in unittest.defaultTestLoader.getTestCaseNames(suite)
    ]


@pytest.fixture
def collects_own_objects_only() -> Iterator[None]:
    """Keep pytest's objects out of collections: some tests collect garbage at each allocation."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.watchdog(120)  # one of them makes 60,000 requests of a server
@pytest.mark.usefixtures("collects_own_objects_only")
@pytest.mark.parametrize(("suite", "name"), cases())
def test_container_passes_cpythons_tests(
    store: Any, suite: type[unittest.TestCase], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = EXCLUDED.get(f"{suite.__name__}.{name}")
    if reason:
        pytest.skip(reason)
    monkeypatch.setattr(Made, "store", store)
    monkeypatch.setattr(test_deque, "deque", MadeDeque)
    monkeypatch.setattr(test_deque, "BIG", 1000)
    monkeypatch.setattr(test_collections, "Counter", MadeCounter)
    if sys.version_info >= (3, 14):
        # As deep as the C stack is there. Containers are limited as Python's calls are.
        monkeypatch.setattr(support, "exceeds_recursion_limit", lambda: 2 * sys.getrecursionlimit())
    result = unittest.TestResult()
    suite(name).run(result)
    assert [text for _, text in (*result.errors, *result.failures)] == []
