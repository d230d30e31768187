"""Several operations as one step."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from garrison.errors import DeadlockError, TransactionFailed
from garrison.store import Kind, create_container, transaction


@pytest.fixture
def both(store: Any) -> tuple[Any, Any]:
    return create_container(store, Kind.DICT, {"a": 1}), create_container(store, Kind.LIST, [1])


def test_transaction_is_all_or_nothing(store: Any, both: Any) -> None:
    d, items = both
    with pytest.raises(ZeroDivisionError), transaction(store):  # noqa: PT012 - the block is it
        d["a"] = 2
        items.append(2)
        assert (d, items) == ({"a": 2}, [1, 2])
        1 / 0  # noqa: B018
    assert (d, items) == ({"a": 1}, [1])
    with transaction(store):
        d["a"] = 2
        items.append(2)
    assert (d, items) == ({"a": 2}, [1, 2])


def test_others_see_nothing_before_its_end(store: Any, both: Any) -> None:
    d, _ = both
    seen: list[Any] = []
    with transaction(store):
        d["a"] = 2
        _in_a_thread(lambda: seen.append(d["a"]))
    _in_a_thread(lambda: seen.append(d["a"]))
    assert seen == [1, 2]


def test_other_writer_waits_for_the_transaction(store: Any, both: Any) -> None:
    d, _ = both
    late: list[bool] = []

    def try_to_write() -> None:
        with pytest.raises(TimeoutError), transaction(store, timeout=0.05):
            pytest.fail("two transactions at once")
        late.append(True)

    with transaction(store):
        _in_a_thread(try_to_write)
        d["a"] += 1
    assert late == [True]
    assert d["a"] == 2


def test_nested_transaction_is_part_of_the_outer(store: Any, both: Any) -> None:
    d, items = both
    with pytest.raises(ZeroDivisionError), transaction(store):  # noqa: PT012 - the block is it
        with transaction(store):
            d["a"] = 2
        assert d["a"] == 2
        1 / 0  # noqa: B018
    assert d["a"] == 1
    with transaction(store), transaction(store):
        items.sort()
        d |= {"b": 3}
    assert d == {"a": 1, "b": 3}


def test_failed_nested_transaction_undoes_the_outer(store: Any, both: Any) -> None:
    d, _ = both
    with pytest.raises(TransactionFailed, match="KeyError: 'missing'") as caught:  # noqa: PT012, SIM117 - the block is it
        with transaction(store):
            d["a"] = 2
            try:
                with transaction(store):
                    d["b"] = 1
                    d["missing"]
            except KeyError:
                pass
            d["c"] = 3
    assert isinstance(caught.value.__cause__, KeyError)
    assert d == {"a": 1}
    with transaction(store):
        d["a"] = 5
    assert d == {"a": 5}


def test_failed_operation_leaves_the_transaction_intact(store: Any, both: Any) -> None:
    d, items = both
    with transaction(store):
        attempts: list[Any] = [lambda: d["missing"], lambda: items.remove(7), lambda: items.pop(9)]
        for attempt in attempts:
            with pytest.raises((LookupError, ValueError)):
                attempt()
        with pytest.raises(ZeroDivisionError):
            d.update_with("a", lambda n: n / 0)
        d["a"] = 2
    assert d == {"a": 2}


def test_transaction_ended_from_inside_raises(store: Any, both: Any) -> None:
    d, _ = both
    with pytest.raises(TransactionFailed, match="ended from inside"), transaction(store):  # noqa: PT012 - the block is it
        d["a"] = 2
        store.abort()
    assert d["a"] == 1


def test_transaction_object_can_be_reused(store: Any, both: Any) -> None:
    block = transaction(store)
    for _ in range(2):
        with block:
            both[0].add("a")
    assert both[0]["a"] == 3


def test_queues_take_part(store: Any) -> None:
    queue, done = create_container(store, Kind.QUEUE, 1), create_container(store, Kind.LIST)
    queue.put("job")
    with pytest.raises(ZeroDivisionError), transaction(store):  # noqa: PT012 - the block is it
        done.append(queue.get())
        1 / 0  # noqa: B018
    assert (queue.qsize(), done) == (1, [])
    with transaction(store):
        done.append(queue.get())
        with pytest.raises(DeadlockError, match=r"get\(\) would wait for ever"):
            queue.get()
        with pytest.raises(DeadlockError):
            queue.get(timeout=1)
        queue.put(1)
        with pytest.raises(DeadlockError):
            queue.put(2)
    assert (queue.get(), done) == (1, ["job"])


def _in_a_thread(function: Any) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
