"""Callbacks: called once, in a thread of the pool, before the result counts as ready."""

from __future__ import annotations

import threading
import time
import types
from pathlib import Path
from typing import Any, NoReturn

import pytest

import garrison
from garrison import Pool, PoolBroken
from garrison.pool import AsyncResult, ThreadPool
from garrison.pool._callbacks import _in_order_of_ends

from . import tasks
from .tasks import Door


def test_callbacks_get_results_and_errors(context: Any) -> None:
    good: list[Any] = []
    bad: list[Any] = []
    with context.Pool(2) as pool:
        pool.apply_async(tasks.square, (3,), {}, good.append, bad.append)
        pool.apply_async(tasks.fail, (LookupError(4),), {}, good.append, bad.append)
        pool.map_async(tasks.square, range(4), 1, good.append, bad.append)
        pool.starmap_async(pow, [(1, "x")], 1, good.append, bad.append)
        pool.close()
        pool.join()
    assert sorted(map(str, good)) == ["9", "[0, 1, 4, 9]"]
    assert sorted(type(error).__name__ for error in bad) == ["LookupError", "TypeError"]


def test_a_result_is_ready_only_after_its_callback() -> None:
    called: list[bool] = []
    with Pool(1) as pool:
        result = pool.apply_async(tasks.square, (3,), callback=lambda n: called.append(n == 9))
        assert result.get() == 9
        assert called == [True]
        failed = pool.apply_async(
            tasks.fail, (LookupError(),), error_callback=lambda _: called.append(False)
        )
        failed.wait()
        assert called == [True, False]
        assert not failed.successful()
        with pytest.raises(LookupError):
            failed.get()


def test_callbacks_come_in_the_order_of_the_ends() -> None:
    found: list[int] = []
    with Pool(1) as pool:
        for n in range(2000):
            pool.apply_async(tasks.identity, (n,), callback=found.append)
        pool.close()
        pool.join()
    assert found == list(range(2000))


def opened(door: Door, value: int) -> int:
    door.wait()
    return value


def test_callbacks_come_in_the_order_of_the_ends_though_the_thread_is_late(tmp_path: Path) -> None:
    found: list[int] = []
    late, doors = threading.Event(), [Door(tmp_path, f"door{n}") for n in range(3)]
    with Pool(3) as pool:
        pool.apply_async(tasks.square, (1,), callback=lambda _: late.wait())
        results = [
            pool.apply_async(opened, (door, n), callback=found.append)
            for n, door in enumerate(doors)
        ]
        for n in (2, 0, 1):
            doors[n].push()
            inner: Any = results[n]
            inner.inner.wait()
        late.set()
        pool.close()
        pool.join()
    assert found == [2, 0, 1]


def test_a_late_task_does_not_hold_up_the_others(tmp_path: Path) -> None:
    here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
    with Pool(2) as pool:
        called = threading.Event()
        slow = pool.apply_async(tasks.push_and_wait, (here, go), callback=lambda _: None)
        here.wait()
        pool.apply_async(tasks.square, (3,), callback=lambda _: called.set())
        called.wait()
        assert not slow.ready()
        go.push()
        slow.get()


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (LookupError, "LookupError: 3"),
        (BaseException, "BaseException: 3"),
        (KeyboardInterrupt, "KeyboardInterrupt: 3"),
        (SystemExit, "a callback of a garrison pool called sys.exit(3); ignored"),
    ],
)
def test_what_a_callback_raises_is_shown_and_nothing_is_lost(
    kind: type[BaseException],
    shown: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    def call_back(_: object) -> NoReturn:
        raise kind(3)

    with Pool(1) as pool:
        result = pool.apply_async(tasks.square, (3,), callback=call_back)
        other = pool.map_async(tasks.square, [4], callback=call_back)
        assert result.get() == 9
        assert other.get() == [16]
        assert pool.apply_async(tasks.square, (5,), callback=lambda _: None).get() == 25
        pool.close()
        pool.join()
    assert capsys.readouterr().err.count(shown) == 2


def test_get_inside_of_a_callback() -> None:
    found: list[int] = []
    results: list[AsyncResult[Any]] = []
    ready = threading.Event()

    def look(_: int) -> None:
        ready.wait()
        found.append(results[0].get())
        assert results[0].ready()
        assert results[0].successful()

    with Pool(1) as pool:
        results.append(pool.apply_async(tasks.square, (3,), callback=look))
        ready.set()
        assert results[0].get() == 9
    assert found == [9]


def test_get_of_another_result_inside_of_a_callback() -> None:
    found: list[int] = []
    with Pool(1) as pool:
        other = pool.apply_async(tasks.square, (4,))
        first = pool.apply_async(
            tasks.square, (3,), callback=lambda n: found.append(n + other.get())
        )
        first.wait()
    assert found == [25]


def test_a_callback_may_submit() -> None:
    done = threading.Event()
    found: list[int] = []
    with Pool(1) as pool:

        def again(n: int) -> None:
            found.append(n)
            if n < 1000:
                pool.apply_async(tasks.square, (n,), callback=again)
            else:
                done.set()

        pool.apply_async(tasks.square, (2,), callback=again)
        done.wait()
        assert found == [4, 16, 256, 65536]
        assert pool.apply(tasks.square, (3,)) == 9


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_callback_may_end_the_pool(end: str) -> None:
    pool = Pool(1)
    result = pool.apply_async(tasks.square, (3,), callback=lambda _: getattr(pool, end)())
    assert result.get() == 9
    pool.join()
    with pytest.raises(garrison.PoolClosed):
        pool.apply(tasks.square, (3,))


def test_callbacks_of_lost_tasks() -> None:
    lost: list[BaseException] = []
    with Pool(1) as pool:
        pool.apply_async(tasks.die, error_callback=lost.append).wait()
        pool.options(timeout=0.2).apply_async(tasks.forever, error_callback=lost.append).wait()
    assert [type(error) for error in lost] == [garrison.WorkerDied, garrison.TaskTimeout]


def test_terminate_calls_no_callback_of_missing_results() -> None:
    lost: list[BaseException] = []
    pool = Pool(1)
    results = [pool.apply_async(tasks.forever, error_callback=lost.append) for _ in range(3)]
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(garrison.PoolTerminated):
            result.get()
    assert lost == []


def test_the_thread_ends_with_the_last_callback() -> None:
    before = threading.active_count()
    with Pool(1) as pool:
        assert threading.active_count() == before
        for _ in range(3):
            pool.apply_async(tasks.square, (3,), callback=lambda _: None).get()
            pool._callbacks.join()
            assert threading.active_count() == before


def test_callbacks_of_a_thread_pool() -> None:
    found: list[Any] = []
    with ThreadPool(2) as pool:
        pool.apply_async(tasks.square, (3,), callback=found.append).get()
        pool.map_async(tasks.square, range(3), callback=found.append).get()
        pool.apply_async(tasks.fail, (LookupError(4),), error_callback=found.append).wait()
    assert [*found[:2], str(found[2])] == [9, [0, 1, 4], "4"]


def test_a_task_that_ends_while_the_others_are_asked_waits_for_its_turn() -> None:
    """One that was asked before it may have ended earlier."""
    now = time.monotonic_ns()
    early, late = (_ended(now - 5), _ended(now - 9)), _ended(now + 60 * 10**9)
    assert _in_order_of_ends([*early, late]) == [early[1], early[0]]


def _ended(at: int) -> Any:
    task = types.SimpleNamespace(ended=lambda: True, ended_at=at)
    return types.SimpleNamespace(_next_task=lambda: task)


def test_the_error_callback_is_told_that_the_pool_broke(capfd: pytest.CaptureFixture[str]) -> None:
    told: list[BaseException] = []
    with Pool(1, initializer=tasks.fail, initargs=(OSError("no such disk"),)) as pool:
        single = pool.apply_async(tasks.square, (3,), error_callback=told.append)
        mapped = pool.map_async(tasks.square, range(3), error_callback=told.append)
        for result in (single, mapped):
            with pytest.raises(PoolBroken):
                result.get()
    assert [type(error) for error in told] == [PoolBroken, PoolBroken]
    assert "no such disk" in capfd.readouterr().err
