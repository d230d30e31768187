"""Futures that are watched: callbacks, `as_completed`, `wait`, asyncio; and cancelled ones."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from concurrent.futures import Future as StandardFuture
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import pytest

import garrison
from executor import tasks
from garrison import Executor
from waiting import wait_until


class Busy(NamedTuple):
    """An executor whose only worker waits for the gate."""

    executor: Executor
    first: StandardFuture[int]
    gate: Any


@pytest.fixture
def busy() -> Iterator[Busy]:
    context = garrison.get_context()
    begun, gate = context.Queue(), context.Event()
    with Executor(1) as executor:
        first = executor.submit(tasks.report_and_wait, begun, gate)
        begun.get()
        yield Busy(executor, first, gate)
        gate.set()
        first.result()  # else its memory stays until pytest has forgotten it


def test_as_completed_gives_each_future_once(executor: Executor) -> None:
    futures = [executor.submit(tasks.add, n) for n in range(500)]
    done = list(concurrent.futures.as_completed(futures))
    assert len(done) == len(set(done)) == 500
    assert sorted(future.result() for future in done) == list(range(500))


@pytest.mark.parametrize("when", ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
def test_wait_returns_when_it_should(busy: Busy, when: str) -> None:
    waiting: Any = busy.executor.submit(tasks.fail, "x")
    threading.Timer(0.05, busy.gate.set).start()
    done, rest = concurrent.futures.wait([busy.first, waiting], return_when=when)
    assert busy.first in done
    assert rest <= {waiting}


def test_wait_ends_at_its_timeout(busy: Busy) -> None:
    done, rest = concurrent.futures.wait([busy.first], timeout=0.01)
    assert (done, rest) == (set(), {busy.first})


def test_a_callback_is_called_in_a_thread_though_nobody_waits(busy: Busy) -> None:
    called = threading.Event()
    thread: list[threading.Thread] = []

    def callback(future: StandardFuture[int]) -> None:
        thread.append(threading.current_thread())
        called.set()

    busy.first.add_done_callback(callback)
    busy.gate.set()
    assert called.wait(20)
    assert thread != [threading.main_thread()]


def test_a_callback_of_an_ended_future_is_called_at_once(executor: Executor) -> None:
    future = executor.submit(tasks.add, 1)
    future.result()
    found: list[Any] = []
    threads = threading.active_count()
    future.add_done_callback(found.append)
    assert found == [future]
    assert threading.active_count() == threads


def test_callbacks_are_called_in_their_order_and_none_stops_the_next(
    busy: Busy, caplog: Any
) -> None:
    found: list[int] = []

    def wrong(future: StandardFuture[int]) -> None:
        raise ValueError("a wrong callback")

    busy.first.add_done_callback(lambda _: found.append(1))
    busy.first.add_done_callback(wrong)
    busy.first.add_done_callback(lambda _: found.append(2))
    busy.gate.set()
    wait_until(lambda: found == [1, 2])
    assert "a wrong callback" in caplog.text
    caplog.clear()  # its tracebacks lead to the pool


def test_a_callback_that_leaves_stops_no_other(busy: Busy, monkeypatch: Any) -> None:
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_type))
    second = busy.executor.submit(tasks.add, 1)
    found: list[Any] = []
    busy.first.add_done_callback(lambda _: tasks.leave(1))
    second.add_done_callback(found.append)
    busy.gate.set()
    wait_until(lambda: found == [second])
    assert reported == [SystemExit]


def test_callbacks_may_submit_and_wait(busy: Busy) -> None:
    depth = 20
    ended = threading.Event()

    def submit_more(future: StandardFuture[int]) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            ended.set()
            return
        assert busy.executor.submit(tasks.add, depth).result() == depth
        busy.executor.submit(tasks.add, 1).add_done_callback(submit_more)

    busy.first.add_done_callback(submit_more)
    busy.gate.set()
    assert ended.wait(20)


def test_the_result_of_a_watched_future_wakes_who_waits(busy: Busy) -> None:
    busy.first.add_done_callback(lambda _: None)
    with pytest.raises(concurrent.futures.TimeoutError):
        busy.first.result(timeout=0.01)
    threading.Timer(0.05, busy.gate.set).start()
    assert busy.first.result() > 0


def test_a_watched_future_of_a_dead_worker_ends(executor: Executor) -> None:
    futures: list[Any] = [executor.submit(tasks.die), executor.submit(tasks.add, 1)]
    done = concurrent.futures.wait(futures).done
    assert done == set(futures)
    assert isinstance(futures[0].exception(), BrokenProcessPool)


def test_asyncio_awaits_calls(executor: Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, tasks.add, n) for n in range(200)]
        results: list[int] = await asyncio.gather(*calls)
        results.append(await asyncio.wrap_future(executor.submit(tasks.add, 200)))
        with pytest.raises(ValueError, match="wrong"):
            await loop.run_in_executor(executor, tasks.fail, "wrong")
        return results

    assert asyncio.run(main()) == list(range(201))


# --- Cancelled ------------------------------------------------------------------------------------


def test_a_call_that_has_not_begun_is_cancelled_and_never_runs(busy: Busy) -> None:
    waiting = [busy.executor.submit(tasks.keep, n) for n in range(5)]
    assert all(future.cancel() for future in waiting)
    assert all(future.cancelled() and future.done() for future in waiting)
    assert waiting[0].cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        waiting[0].result()
    with pytest.raises(concurrent.futures.CancelledError):
        waiting[1].exception()
    busy.gate.set()
    assert busy.executor.submit(tasks.kept).result() == []


def test_a_call_that_runs_is_not_cancelled(busy: Busy) -> None:
    assert not busy.first.cancel()
    busy.gate.set()
    assert busy.first.result() > 0
    assert not busy.first.cancel()
    assert not busy.first.cancelled()


def test_to_cancel_a_watched_future_calls_back_and_wakes_all(busy: Busy) -> None:
    waiting = busy.executor.submit(tasks.add, 1)
    found: list[Any] = []
    waiting.add_done_callback(found.append)
    threading.Timer(0.05, waiting.cancel).start()
    assert concurrent.futures.wait([waiting]).done == {waiting}
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.result()
    wait_until(lambda: found == [waiting])


def test_to_cancel_a_future_wakes_a_thread_that_waits_for_it(busy: Busy) -> None:
    waiting = busy.executor.submit(tasks.add, 1)
    threading.Timer(0.05, waiting.cancel).start()
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.result()


@pytest.mark.parametrize("watched", [False, True])
def test_a_call_that_runs_can_be_ended_if_the_executor_says_so(watched: bool) -> None:
    context = garrison.get_context()
    begun, gate = context.Queue(), context.Event()
    with Executor(1, cancel_running=True) as executor:
        running = executor.submit(tasks.report_and_wait, begun, gate)
        pid = begun.get()
        found: list[Any] = []
        if watched:
            running.add_done_callback(found.append)
        assert running.cancel()
        assert running.cancelled()
        assert not running.running()
        with pytest.raises(concurrent.futures.CancelledError):
            running.result()
        assert found == [running] * watched
        assert executor.submit(tasks.report_and_leave).result() == pid  # it was only interrupted


def test_a_call_that_has_ended_is_not_ended_again() -> None:
    with Executor(1, cancel_running=True) as executor:
        future = executor.submit(tasks.add, 1)
        concurrent.futures.wait([future])
        assert not future.cancel()
        assert future.result() == 1


@pytest.mark.parametrize("engine", ["threads", None])
def test_watched_futures_of_withdrawn_calls_end_on_any_engine(engine: str | None) -> None:
    gate = garrison.get_context().Event()
    executor = Executor(1, engine=engine)
    first = executor.submit(gate.wait)
    wait_until(first.running)
    waiting = [executor.submit(tasks.add, n) for n in range(5)]
    found: list[Any] = []
    for future in waiting:
        future.add_done_callback(found.append)
    assert waiting[4].cancel()
    executor.shutdown(wait=False, cancel_futures=True)
    gate.set()
    executor.shutdown()
    assert first.result()
    assert set(found) == set(waiting)
    assert all(future.cancelled() for future in waiting)


def test_the_text_of_a_future_is_the_standard_librarys(busy: Busy) -> None:
    waiting = busy.executor.submit(tasks.add, 1)
    assert f"<Future at {id(busy.first):#x} state=running>" == repr(busy.first)
    assert f"<Future at {id(waiting):#x} state=pending>" == repr(waiting)
    waiting.cancel()
    assert "state=cancelled>" in repr(waiting)
    busy.gate.set()
    busy.first.result()
    assert "state=finished returned int>" in repr(busy.first)
    failed = busy.executor.submit(tasks.fail, "x")
    failed.exception()
    assert "state=finished raised ValueError>" in repr(failed)
