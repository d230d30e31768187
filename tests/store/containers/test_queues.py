"""`Queue` and `JoinableQueue`."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from garrison.errors import ClaimLost, ShutDown
from garrison.store import Kind, create_container, transaction

KINDS = [Kind.QUEUE, Kind.JOINABLE_QUEUE]


@pytest.fixture(params=KINDS)
def items(request: pytest.FixtureRequest, store: Any) -> Any:
    return create_container(store, request.param)


@pytest.fixture(params=KINDS)
def small(request: pytest.FixtureRequest, store: Any) -> Any:
    return create_container(store, request.param, 2)


def test_first_in_first_out(items: Any) -> None:
    for n in range(3):
        items.put(n)
    items.put_nowait({"a": [1]})
    assert (items.qsize(), items.empty(), items.full()) == (4, False, False)
    assert [items.get() for _ in range(3)] == [0, 1, 2]
    last = items.get_nowait()
    assert last == {"a": [1]}
    assert type(last["a"]) is list
    assert items.empty()


def test_empty_queue_raises_empty(items: Any) -> None:
    calls: list[Any] = [
        items.get_nowait,
        lambda: items.get(False),
        lambda: items.get(timeout=0),
        lambda: items.get(timeout=0.02),
        lambda: items.get_many(3, timeout=0.02),
        lambda: items.claim(block=False).__enter__(),
    ]
    for call in calls:
        with pytest.raises(queue.Empty):
            call()


def test_full_queue_raises_full(small: Any) -> None:
    small.put(1)
    assert not small.full()
    small.put(2)
    assert small.full()
    calls: list[Any] = [
        lambda: small.put_nowait(3),
        lambda: small.put(3, False),
        lambda: small.put(3, timeout=0),
        lambda: small.put(3, timeout=0.02),
        lambda: small.put_many([3], timeout=0.02),
    ]
    for call in calls:
        with pytest.raises(queue.Full):
            call()
    assert (small.maxsize, small.get_many(5)) == (2, [1, 2])


def test_negative_timeout_is_refused(small: Any) -> None:
    calls: list[Any] = [lambda: small.get(timeout=-1), lambda: small.put(1, timeout=-1)]
    for call in calls:
        with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
            call()
    with pytest.raises(queue.Empty):
        small.get(False, -1)


def test_put_many_and_get_many(small: Any) -> None:
    small.put_many([])
    small.put_many(n for n in (1, 2))
    with pytest.raises(ValueError, match="3 items do not fit into a queue with maxsize 2"):
        small.put_many([1, 2, 3])
    assert small.get_many(1) == [1]
    with pytest.raises(ValueError, match="at least 1"):
        small.get_many(0)


def test_a_get_waits_for_a_put(items: Any) -> None:
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(items.get(timeout=20)))
    thread.start()
    items.put("late")
    thread.join()
    assert got == ["late"]


def test_a_put_waits_for_a_get(small: Any) -> None:
    small.put_many([1, 2])
    thread = threading.Thread(target=lambda: small.put(3, timeout=20))
    thread.start()
    assert [small.get(), small.get(timeout=20), small.get(timeout=20)] == [1, 2, 3]
    thread.join()


def test_many_threads_put_and_get(small: Any) -> None:
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda: [small.put(n) for n in range(50)]),
        threading.Thread(target=lambda: [small.put(n) for n in range(50, 100)]),
        threading.Thread(target=lambda: got.extend(small.get() for _ in range(50))),
        threading.Thread(target=lambda: got.extend(small.get() for _ in range(50))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(100))


def test_claimed_item_is_removed_at_the_end(items: Any) -> None:
    items.put_many(["a", "b"])
    with items.claim() as item:
        assert item == "a"
        assert items.qsize() == 1
    assert items.get_many(9) == ["b"]


def test_failed_claim_returns_its_item_to_the_front(items: Any) -> None:
    items.put_many(["a", "b"])
    with pytest.raises(ZeroDivisionError), items.claim() as item:
        1 / (item == "b")
    assert items.get_many(9) == ["a", "b"]


def test_a_claim_that_is_lost_is_reported(items: Any, store: Any) -> None:
    items.put("a")
    with pytest.raises(ClaimLost, match="will come again"), items.claim():
        store.release_owner(1)
    assert items.get() == "a"


def test_repr_shows_state(items: Any, small: Any) -> None:
    items.put(1)
    assert str(items) == f"<{type(items).__name__} with 1 items>"
    assert str(small) == f"<{type(small).__name__} with 0 of 2 items>"


def test_join_waits_for_every_item(store: Any) -> None:
    jobs = create_container(store, Kind.JOINABLE_QUEUE)
    jobs.join()
    jobs.put_many([1, 2])
    with pytest.raises(TimeoutError):
        jobs.join(timeout=0.02)
    thread = threading.Thread(target=jobs.join)
    thread.start()
    jobs.get()
    jobs.task_done()
    with jobs.claim():
        pass
    thread.join()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        jobs.task_done()


def test_a_claim_that_fails_is_not_done(store: Any) -> None:
    jobs = create_container(store, Kind.JOINABLE_QUEUE)
    jobs.put(1)
    with pytest.raises(ZeroDivisionError), jobs.claim():
        1 / 0  # noqa: B018
    with pytest.raises(TimeoutError):
        jobs.join(timeout=0)


def test_queue_counts_unfinished_items(items: Any) -> None:
    items.put_many([1, 2])
    with items.claim():
        pass
    with pytest.raises(TimeoutError):
        items.join(timeout=0.02)
    items.get()
    items.task_done()
    items.join()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        items.task_done()


def test_after_shutdown_only_remaining_items_are_got(small: Any) -> None:
    small.put_many([1, 2])
    small.shutdown()
    for put in (small.put, small.put_nowait, lambda item: small.put(item, timeout=1)):
        with pytest.raises(ShutDown):
            put(3)
    assert (small.get(), small.get_many(5), small.qsize()) == (1, [2], 0)
    calls: list[Any] = [
        *(small.get, small.get_nowait, lambda: small.get(timeout=1), lambda: small.get_many(2)),
        lambda: small.claim().__enter__(),
    ]
    for call in calls:
        with pytest.raises(ShutDown):
            call()
    small.task_done()
    small.task_done()
    small.join()


def test_immediate_shutdown_drops_all_items(items: Any) -> None:
    items.put_many([{"a": [1]}, 2, 3])
    items.get()
    items.shutdown(immediate=True)
    assert (items.qsize(), items.empty()) == (0, True)
    items.task_done()
    items.join()
    with pytest.raises(ShutDown):
        items.get()


@pytest.mark.parametrize("waiter", ["get", "put"])
def test_shutdown_wakes_waiters(small: Any, waiter: str) -> None:
    if waiter == "put":
        small.put_many([1, 2])
    outcome: list[Any] = []

    def wait() -> None:
        try:
            small.put(3) if waiter == "put" else small.get()
        except ShutDown as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    small.shutdown()
    thread.join()
    assert len(outcome) == 1


def test_shutdown_in_a_transaction_is_undone_with_it(items: Any, store: Any) -> None:
    def fail() -> None:
        with transaction(store):
            items.shutdown()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    items.put(1)
    assert items.get() == 1
