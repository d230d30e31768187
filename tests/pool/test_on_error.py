"""`on_error`: a failed item raises, is a `Failure`, or is left out; the others are not affected."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import garrison
from garrison import Failure
from garrison.engines import Serial
from garrison.pool import ThreadPool

from .tasks import die_at_five, divide, fail_at_threes


class Unsendable:
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


POOLS: dict[str, Callable[[], Any]] = {
    "fork": lambda: garrison.get_context("fork").Pool(2),
    "spawn": lambda: garrison.get_context("spawn").Pool(2),
    "forkserver": lambda: garrison.get_context("forkserver").Pool(2),
    "threads": lambda: ThreadPool(2),
    "serial": lambda: garrison.Pool(engine="serial"),
    "serial with pickles": lambda: garrison.Pool(engine=Serial(pickle=True)),
}


@pytest.fixture(params=POOLS)
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return POOLS[request.param]


METHODS: dict[str, Callable[[Any, Any, Any], list[Any]]] = {
    "map": lambda pool, function, items: pool.map(function, items),
    "map singly": lambda pool, function, items: pool.map(function, items, 1),
    "map in chunks": lambda pool, function, items: pool.map(function, items, 4),
    "map_async": lambda pool, function, items: pool.map_async(function, items, 4).get(),
    "imap": lambda pool, function, items: list(pool.imap(function, items)),
    "imap in chunks": lambda pool, function, items: list(pool.imap(function, items, 4)),
    "imap of an iterator": lambda pool, function, items: list(pool.imap(function, iter(items), 4)),
    "imap, few ahead": lambda pool, function, items: list(pool.imap(function, items, 2, 3)),
}
UNORDERED: dict[str, Callable[[Any, Any, Any], list[Any]]] = {
    "imap_unordered": lambda pool, function, items: list(pool.imap_unordered(function, items)),
    "unordered chunks": lambda pool, function, items: list(pool.imap_unordered(function, items, 4)),
}


def shown(results: list[Any]) -> list[Any]:
    return [
        (each.index, each.item, each.error.args) if isinstance(each, Failure) else each
        for each in results
    ]


def expected(items: range) -> Iterator[Any]:
    for index, item in enumerate(items):
        yield (index, str(item), ("no", item)) if item % 3 == 0 else item


def test_failures_take_the_places_of_results_or_are_left_out(make: Callable[[], Any]) -> None:
    items = range(1, 12)
    whole, good = list(expected(items)), [item for item in items if item % 3]
    with make() as pool:
        returning, skipping = pool.options(on_error="return"), pool.options(on_error="skip")
        for name, method in METHODS.items():
            assert shown(method(returning, fail_at_threes, items)) == whole, name
            assert method(skipping, fail_at_threes, items) == good, name
        for name, method in UNORDERED.items():
            assert sorted(shown(method(returning, fail_at_threes, items)), key=str) == sorted(
                whole, key=str
            ), name
            assert sorted(method(skipping, fail_at_threes, items)) == good, name
        pairs = [(4, 2), (1, 0), (9, 3)]
        assert skipping.starmap(divide, pairs) == [2, 3]
        assert skipping.starmap_async(divide, iter(pairs), 2).get() == [2, 3]
        two, failed, three = returning.starmap(divide, pairs)
        assert (two, failed.index, failed.item, three) == (2, 1, "(1, 0)", 3)
        with pytest.raises(ValueError, match="no"):
            pool.map(fail_at_threes, items)


def test_a_dead_worker_costs_its_item_alone(context: Any) -> None:
    items = range(1, 12)
    with context.Pool(2) as pool:
        for name in ("map in chunks", "imap", "unordered chunks"):
            method = {**METHODS, **UNORDERED}[name]
            results = method(pool.options(on_error="return"), die_at_five, items)
            (failed,) = (
                each
                for each in results
                if isinstance(each, Failure) and isinstance(each.error, garrison.WorkerDied)
            )
            assert (failed.index, failed.item) == (4, "5"), name
            assert len(results) == 11, name
            assert sorted(each for each in results if each) == [1, 2, 4, 7, 8, 10, 11], name
        assert pool.options(on_error="skip").map(die_at_five, items) == [1, 2, 4, 7, 8, 10, 11]


def test_an_item_that_cannot_be_sent_fails_alone(context: Any) -> None:
    with context.Pool(2) as pool:
        one, failed, two = pool.options(on_error="return").map(abs, [-1, Unsendable(), -2], 3)
        assert (one, failed.index, failed.attempt, failed.worker, two) == (1, 1, 0, "", 2)
        assert isinstance(failed.error, garrison.ArgumentUnpicklable)
        assert pool.options(on_error="skip").map(abs, [-1, Unsendable(), -2]) == [1, 2]


def test_a_single_call_returns_its_failure(make: Callable[[], Any]) -> None:
    with make() as pool:
        failed: Any = pool.options(on_error="return").apply(divide, (1,), {"right": 0})
        assert (failed.index, failed.item) == (None, "(1, right=0)")
        assert isinstance(failed.error, ZeroDivisionError)
        assert pool.options(on_error="return").apply(divide, (6, 3)) == 2
        with pytest.raises(ZeroDivisionError):
            pool.options(on_error="skip").apply(divide, (1, 0))


def test_callbacks_get_the_list() -> None:
    with garrison.Pool(2, on_error="skip") as pool:
        got: list[Any] = []
        pool.map_async(fail_at_threes, range(6), 2, got.append).wait()
        assert got == [[1, 2, 4, 5]]
        result = pool.map_async(fail_at_threes, range(6))
        result.wait()
        assert result.ready()
        assert result.successful()


def test_an_unread_map_comes_to_its_end() -> None:
    with garrison.Pool(2, on_error="return") as pool:
        result = pool.map_async(die_at_five, range(1, 300), 1)
        pool.close()
        pool.join()
        assert len(result.get(timeout=10)) == 299


def test_a_failing_input_raises() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("input")

    with garrison.Pool(1, on_error="skip") as pool:
        with pytest.raises(KeyError, match="input"):
            pool.map(abs, items())
        with pytest.raises(KeyError, match="input"):
            list(pool.imap(abs, items()))


def test_a_terminated_pool_raises_whatever_the_option_says() -> None:
    pool = garrison.Pool(1, on_error="return")
    result = pool.map_async(fail_at_threes, range(10**6), 1)
    pool.terminate()
    pool.join()
    with pytest.raises(garrison.PoolTerminated):
        result.get()


def test_a_failure_is_a_record() -> None:
    failed = Failure(3, "'x'", ValueError("no"), 2, "a worker (pid 7)", 0.5)
    again = pickle.loads(pickle.dumps(failed))
    assert (again.index, again.item, again.error.args, again.attempt) == (3, "'x'", ("no",), 2)
    assert (again.worker, again.duration) == ("a worker (pid 7)", 0.5)
    assert not failed
    assert repr(failed) == "<Failure item 3: 'x': ValueError('no')>"
    with pytest.raises(AttributeError):
        failed.index = 4


def test_another_value_is_refused() -> None:
    with pytest.raises(ValueError, match="on_error must be 'raise', 'return' or 'skip', not 'x'"):
        garrison.Options(on_error="x")  # type: ignore[arg-type]
