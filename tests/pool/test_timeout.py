"""`timeout`: the task that takes too long ends, and nothing else does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import Pool, TaskTimeout
from garrison.supervisor import _crash_stack, _timeouts

from . import tasks
from .tasks import Door, Tally

FORK: Any = garrison.get_context("fork")
"""Where workers import this module themselves, that alone may take longer than `SOON`."""
SOON = 0.2
LONG = 20.0


def all_workers_work(pool: Pool, folder: Path) -> bool:
    door = Door(folder, "all")
    return len(set(pool.starmap(tasks.meet, [(door, True), (door, False)], chunksize=1))) == 2


def test_only_the_late_task_ends(context: Any, tmp_path: Path) -> None:
    with context.Pool(2) as pool:
        here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
        neighbour = pool.options(timeout=LONG).apply_async(tasks.push_and_wait, (here, go))
        here.wait()
        with pytest.raises(TaskTimeout):
            pool.options(timeout=SOON).apply(tasks.forever)
        go.push()
        assert neighbour.get() in pool.statistics().worker_pids
        assert all_workers_work(pool, tmp_path)
        assert pool.statistics().deaths == 1


def test_timeout_error_has_the_stack_of_the_task() -> None:
    with FORK.Pool(2) as pool:
        before = pool.statistics().worker_pids
        with pytest.raises(TaskTimeout) as caught:
            pool.options(timeout=SOON).apply(tasks.forever, (1,))
        error = caught.value
        assert error.timeout == SOON
        assert error.task == "pool.tasks.forever(1)"
        assert error.pid in before
        assert "in forever" in error.stack
        assert str(error).startswith("pool.tasks.forever(1) took longer than 0.2 s")
        assert isinstance(error, TimeoutError)


def test_the_pools_own_timeout_holds_for_all_methods() -> None:
    with FORK.Pool(2, timeout=SOON) as pool:
        waits: tuple[Callable[[], Any], ...] = (
            lambda: pool.apply(tasks.forever),
            lambda: pool.map(tasks.forever, [1]),
            lambda: pool.starmap_async(tasks.forever, [(1, 2)]).get(),
            lambda: next(pool.imap(tasks.forever, [1])),
            lambda: next(pool.imap_unordered(tasks.forever, [1])),
        )
        for wait in waits:
            with pytest.raises(TaskTimeout):
                wait()


def square_or_forever(n: int) -> int:
    return n * n if n else tasks.forever()


def outcomes(iterator: Any, items: int) -> list[Any]:
    """Each item's result, or the type of its exception."""
    found: list[Any] = []
    for _ in range(items):
        try:
            found.append(next(iterator))
        except Exception as error:
            found.append(type(error))
    with pytest.raises(StopIteration):
        next(iterator)
    return found


@pytest.mark.parametrize("chunksize", [1, 2, 5])
def test_neighbours_in_a_chunk_of_imap_have_their_own_results(chunksize: int) -> None:
    with FORK.Pool(2) as pool:
        results = pool.options(timeout=SOON).imap(square_or_forever, [1, 2, 0, 4, 5], chunksize)
        assert outcomes(results, 5) == [1, 4, TaskTimeout, 16, 25]


def test_neighbours_in_a_chunk_of_imap_unordered_have_their_own_results() -> None:
    with FORK.Pool(2) as pool:
        view = pool.options(timeout=SOON)
        found = outcomes(view.imap_unordered(square_or_forever, [1, 2, 0, 4, 5], 3), 5)
        assert sorted(map(str, found)) == sorted(map(str, [1, 4, TaskTimeout, 16, 25]))


def test_a_late_item_is_the_error_of_the_whole_map(tmp_path: Path) -> None:
    with FORK.Pool(2) as pool:
        with pytest.raises(TaskTimeout) as caught:
            pool.options(timeout=SOON).map(square_or_forever, [1, 2, 0, 4, 5], chunksize=5)
        assert caught.value.task == "pool.test_timeout.square_or_forever(0)"
        assert all_workers_work(pool, tmp_path)


def test_each_item_of_a_chunk_has_the_whole_timeout() -> None:
    with FORK.Pool(1) as pool:
        # Together they take longer than one of them may.
        pool.options(timeout=0.6).map(time.sleep, [0.25] * 3, chunksize=3)


def test_waiting_for_a_worker_is_no_part_of_the_timeout() -> None:
    with FORK.Pool(1) as pool:
        view = pool.options(timeout=0.6)
        results = [view.apply_async(time.sleep, (0.25,)) for _ in range(3)]
        assert [result.get() for result in results] == [None] * 3


def test_idle_supervisor_is_woken_by_the_first_timeout() -> None:
    with FORK.Pool(2) as pool:
        # Without any deadline to keep it sleeps until somebody speaks to it.
        assert pool.map(tasks.square, range(10)) == [n * n for n in range(10)]
        with pytest.raises(TaskTimeout):
            pool.options(timeout=SOON).apply(tasks.forever)
        with pytest.raises(TaskTimeout):
            pool.options(timeout=SOON / 2).apply(tasks.forever)


def end_when_the_stack_is_asked_for() -> int:
    asked: list[int] = []
    signal.signal(_crash_stack.STACK_SIGNAL, lambda number, _: asked.append(number))
    while not asked:
        signal.pause()
    return os.getpid()


def test_a_task_that_ends_at_the_last_moment_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    # The moment between "it is late" and "stop it", made long.
    monkeypatch.setattr(_timeouts, "STACK_DUMP_S", LONG)
    with FORK.Pool(1) as pool:
        survivor = pool.options(timeout=SOON).apply(end_when_the_stack_is_asked_for)
        assert pool.apply(tasks.own_pid) == survivor
        assert pool.statistics().deaths == 0


def defend(handled: bool) -> None:
    everything = signal.valid_signals()
    if handled:
        for number in everything - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    tasks.forever()


@pytest.mark.parametrize("handled", [True, False])
def test_late_task_cannot_catch_its_end(handled: bool) -> None:
    with FORK.Pool(2) as pool:
        with pytest.raises(TaskTimeout):
            pool.options(timeout=SOON).apply(defend, (handled,))
        assert pool.apply(tasks.square, (3,)) == 9


def test_a_late_task_that_keeps_the_gil_ends_too() -> None:
    with FORK.Pool(2) as pool:
        with pytest.raises(TaskTimeout) as caught:
            pool.options(timeout=SOON).apply(tasks.hold_gil)
        assert "in hold_gil" in caught.value.stack


def begin_forever(tally: Tally) -> None:
    tally.add()
    tasks.forever()


def test_a_late_task_is_not_tried_again(tmp_path: Path) -> None:
    with FORK.Pool(2) as pool:
        tally = Tally(tmp_path)
        with pytest.raises(TaskTimeout):
            pool.options(timeout=SOON, retries=5).apply(begin_forever, (tally,))
        assert tally.total == 1


def test_get_with_a_timeout_gives_up_and_ends_nothing(tmp_path: Path) -> None:
    with FORK.Pool(2) as pool:
        here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
        result = pool.apply_async(tasks.push_and_wait, (here, go))
        here.wait()
        with pytest.raises(garrison.TimeoutError):
            result.get(0.01)
        assert not result.ready()
        go.push()
        assert result.get() in pool.statistics().worker_pids
