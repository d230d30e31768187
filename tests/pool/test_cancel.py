"""Cancelled calls: those that wait are withdrawn, those that run end, and the pool goes on."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import pytest

import garrison
from waiting import wait_until

LONG = 600.0


def note(path: str, text: str) -> None:
    with open(path, "a") as file:  # noqa: PTH123 - in a worker, a few times
        file.write(f"{text}\n")


def wait_for(path: Path, text: str) -> None:
    """Wait until a task has noted this."""
    while not (path.exists() and text in path.read_text().split("\n")):
        time.sleep(0.001)


def sleep_long(path: str) -> None:
    try:
        note(path, f"begun {os.getpid()}")
        note(path, "begun")
        time.sleep(LONG)
    except garrison.TaskInterrupt:
        note(path, "interrupted")
        raise


def ignore_interrupts(path: str) -> None:
    note(path, "begun")
    while True:
        try:
            time.sleep(LONG)
        except KeyboardInterrupt:
            note(path, "ignored")


def compute_in_c(path: str) -> None:
    """Compute where no handler of Python's runs."""
    note(path, "begun")
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)


class SlowToLoad:
    """Takes long in the worker before its task begins."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return sleep_long, (self.path,)


def begin(pool: Any, path: Path, task: Any = sleep_long) -> garrison.pool.AsyncResult[Any]:
    result: garrison.pool.AsyncResult[Any] = pool.apply_async(task, (str(path),))
    wait_for(path, "begun")
    return result


def test_a_waiting_call_is_withdrawn(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        running = begin(pool, tmp_path / "first")
        waiting = pool.apply_async(sleep_long, (str(tmp_path / "second"),))
        assert waiting.cancel()
        assert waiting.cancelled()
        assert waiting.ready()
        assert not waiting.successful()
        with pytest.raises(garrison.TaskCancelled):
            waiting.get()
        assert running.cancel()
        assert pool.apply(abs, (-1,)) == 1
        assert not (tmp_path / "second").exists()


def test_a_running_call_is_interrupted_and_its_worker_goes_on(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        pid = pool.apply(os.getpid)
        result = begin(pool, tmp_path / "notes")
        assert result.cancel(grace=60)
        with pytest.raises(garrison.TaskCancelled):
            result.get()
        assert pool.apply(os.getpid) == pid
        wait_for(tmp_path / "notes", "interrupted")


@pytest.mark.parametrize("task", [ignore_interrupts, compute_in_c])
@pytest.mark.parametrize("grace", [0, 0.05])
def test_the_worker_of_a_task_that_goes_on_is_replaced(
    context: Any, tmp_path: Path, task: Any, grace: float
) -> None:
    with context.Pool(1) as pool:
        pid = pool.apply(os.getpid)
        result = begin(pool, tmp_path / "notes", task)
        assert result.cancel(grace=grace)
        assert pool.apply(os.getpid) != pid
        wait_until(lambda: pool.statistics().in_flight == 0)


def test_a_call_whose_arguments_are_being_loaded_is_interrupted(
    context: Any, tmp_path: Path
) -> None:
    with context.Pool(1) as pool:
        path = tmp_path / "notes"
        result = pool.apply_async(print, (SlowToLoad(str(path)),))
        wait_for(path, "begun")
        assert result.cancel()
        assert pool.apply(abs, (-1,)) == 1
        wait_for(path, "interrupted")


def test_a_call_that_has_ended_cannot_be_cancelled(context: Any) -> None:
    with context.Pool(1) as pool:
        result = pool.apply_async(abs, (-1,))
        result.wait()
        assert not result.cancel()
        assert not result.cancelled()
        assert result.get() == 1
        assert not result.cancel()


def test_a_cancelled_call_has_no_other_attempt(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        path = tmp_path / "notes"
        view = pool.options(retries=5, retry_on=BaseException)
        assert begin(view, path).cancel(grace=60)
        assert pool.apply(abs, (-1,)) == 1
        assert path.read_text().split("\n").count("begun") == 1
        ignoring = tmp_path / "ignoring"
        assert begin(view, ignoring, ignore_interrupts).cancel(grace=0)
        assert pool.apply(abs, (-1,)) == 1
        assert ignoring.read_text().split("\n").count("begun") == 1


def test_threads_that_wait_are_woken(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        found: list[BaseException] = []

        def get(result: Any) -> None:
            try:
                result.get()
            except BaseException as error:
                found.append(error)

        running = begin(pool, tmp_path / "notes", ignore_interrupts)
        waiting = pool.apply_async(abs, (-1,))
        threads = [threading.Thread(target=get, args=(each,)) for each in (running, waiting)]
        for thread in threads:
            thread.start()
        assert waiting.cancel()
        assert running.cancel(grace=60)
        for thread in threads:
            thread.join()
        assert [type(error) for error in found] == [garrison.TaskCancelled] * 2
        pool.terminate()


def test_the_error_callback_is_called(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        errors: list[BaseException] = []
        path = tmp_path / "notes"
        running = pool.apply_async(sleep_long, (str(path),), error_callback=errors.append)
        waiting = pool.map_async(abs, range(3), error_callback=errors.append)
        wait_for(path, "begun")
        assert waiting.cancel()
        assert running.cancel()
        for result in (running, waiting):
            with pytest.raises(garrison.TaskCancelled):
                result.get()
            assert result.cancelled()
        assert [type(error) for error in errors] == [garrison.TaskCancelled] * 2


def test_a_map_is_cancelled_as_a_whole(context: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with context.Pool(2) as pool:
        result = pool.map_async(sleep_long, [str(path)] * 8, chunksize=2)
        while not path.exists() or path.read_text().split("\n").count("begun") < 2:
            time.sleep(0.001)
        assert result.cancel()
        assert result.cancelled()
        assert result.ready()
        with pytest.raises(garrison.TaskCancelled):
            result.get()
        assert pool.map(abs, [-1, -2]) == [1, 2]
        wait_until(lambda: pool.statistics().in_flight == 0)
    notes = path.read_text().split("\n")
    assert notes.count("begun") == notes.count("interrupted") == 2


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_iterator_is_closed(context: Any, tmp_path: Path, name: str, chunksize: int) -> None:
    with context.Pool(1) as pool:
        path = tmp_path / "notes"
        results = getattr(pool, name)(sleep_long, itertools.repeat(str(path)), chunksize)
        wait_for(path, "begun")
        results.close()
        assert list(results) == []
        assert pool.apply(abs, (-1,)) == 1
        assert path.read_text().split("\n").count("begun") == 1
        results.close()


def test_an_iterator_that_is_closed_in_the_middle_keeps_no_results(context: Any) -> None:
    with context.Pool(1) as pool:
        results = pool.imap(abs, range(1000))
        assert next(results) == 0
        results.close()
        with pytest.raises(StopIteration):
            next(results)
        pool.close()
        pool.join()


def test_the_task_after_a_cancelled_one_is_not_interrupted(context: Any) -> None:
    with context.Pool(1) as pool:
        for _ in range(300):
            cancelled = pool.apply_async(sum, (range(1000),))
            following = [pool.apply_async(sum, (range(1000),)) for _ in range(3)]
            cancelled.cancel()
            assert [result.get() for result in following] == [499500] * 3


def test_a_program_that_blocks_signals_can_interrupt_tasks(method: str, tmp_path: Path) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMAX - 6, signal.SIGUSR1})
    try:
        with garrison.get_context(method).Pool(1) as pool:
            begin(pool, tmp_path / "notes").cancel(grace=60)
            wait_for(tmp_path / "notes", "interrupted")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def cancel_in_a_pool_within(path: str) -> int:
    with garrison.Pool(1) as pool:
        begin(pool, Path(path)).cancel(grace=60)
        left: int = pool.apply(abs, (-1,))
    return left


def test_a_task_of_a_pool_within_a_worker_is_interrupted(tmp_path: Path) -> None:
    with garrison.get_context("fork").Pool(1) as pool:
        begin(pool, tmp_path / "outer").cancel(grace=60)
        # Its first task has the number that the interrupted one had here.
        assert pool.apply(cancel_in_a_pool_within, (str(tmp_path / "inner"),)) == 1
    wait_for(tmp_path / "inner", "interrupted")


def fail_when_interrupted(path: str) -> None:
    try:
        sleep_long(path)
    except garrison.TaskInterrupt as error:
        raise OSError from error


def test_a_cancelled_call_that_fails_is_not_tried_again(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        again = pool.options(retries=5, retry_on=OSError)
        begin(again, tmp_path / "notes", fail_when_interrupted).cancel(grace=60)
        assert pool.apply(abs, (-1,)) == 1
    assert (tmp_path / "notes").read_text().split("\n").count("begun") == 1


def exit_slowly(path: str) -> None:
    Finalize(None, end_slowly, (path,), exitpriority=0)
    sys.exit(1)


def end_slowly(path: str) -> None:
    note(path, "ending")
    wait_for_file(f"{path}.go")
    os.kill(os.getpid(), signal.SIGRTMAX - 6)  # the supervisor may have sent it too early
    note(path, "ended")


def test_the_exit_functions_of_a_worker_are_not_interrupted(context: Any, tmp_path: Path) -> None:
    with context.Pool(1) as pool:
        result = pool.apply_async(exit_slowly, (str(tmp_path / "notes"),))
        wait_for(tmp_path / "notes", "ending")
        assert result.cancel(grace=60)
        (tmp_path / "notes.go").touch()
        wait_for(tmp_path / "notes", "ended")
        assert pool.apply(abs, (-1,)) == 1


def test_two_threads_that_cancel_in_turn_miss_no_task(tmp_path: Path) -> None:
    with garrison.Pool(2) as pool:

        def cancel_many() -> None:
            for _ in range(100):
                pool.apply_async(time.sleep, (LONG,)).cancel(grace=60)

        threads = [threading.Thread(target=cancel_many) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.map(abs, range(-9, 0)) == list(range(9, 0, -1))
        assert pool.statistics().deaths == 0


def test_a_map_that_fails_no_item_is_cancelled_while_another_thread_waits(context: Any) -> None:
    with context.Pool(1, on_error="return") as pool:
        result = pool.map_async(time.sleep, [LONG] * 3, 1)
        caught: list[BaseException] = []

        def get() -> None:
            try:
                result.get()
            except garrison.TaskCancelled as error:
                caught.append(error)

        thread = threading.Thread(target=get)
        thread.start()
        wait_until(lambda: not result._lock.acquire(blocking=False) or result._lock.release())
        assert not result.ready()
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(timeout=0.01)
        assert result.cancel(grace=60)
        thread.join()
        assert len(caught) == 1
        assert result.cancelled()
        assert pool.map(abs, [-1]) == [1]


def test_an_interrupt_of_get_keeps_a_map_that_fails_no_item(context: Any, tmp_path: Path) -> None:
    with context.Pool(1, on_error="return") as pool:
        result = pool.map_async(wait_for_file, [str(tmp_path / "go")] * 3, 1)
        threading.Timer(0.05, signal.raise_signal, (signal.SIGINT,)).start()
        with pytest.raises(KeyboardInterrupt):
            result.get()
        (tmp_path / "go").touch()
        assert result.get() == [True] * 3


def wait_for_file(path: str) -> bool:
    while not os.path.exists(path):  # noqa: PTH110 - as above
        time.sleep(0.001)
    return True


def test_a_grace_is_checked(context: Any) -> None:
    with context.Pool(1) as pool:
        result = pool.apply_async(abs, (-1,))
        for wrong in (-1, float("nan")):
            with pytest.raises(ValueError, match="grace must be at least 0"):
                result.cancel(grace=wrong)
        with pytest.raises(TypeError, match="grace must be a number of seconds, not 'long'"):
            result.cancel(grace="long")
        assert result.get() == 1
