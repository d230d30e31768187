"""How executors end: shutdown, kills, the end of the program, forks, and without a reference."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

import garrison
from executor import tasks
from garrison import Executor, PoolClosed
from garrison.executor import _work


def run(text: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(text)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_nothing_starts_before_the_first_call() -> None:
    executor = Executor(2)
    assert "not started" in repr(executor)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.add, 1)


@pytest.mark.parametrize("wait", [True, False])
def test_calls_end_after_shutdown(context: Any, wait: bool) -> None:
    executor = Executor(2, context)
    futures = [executor.submit(tasks.add, n) for n in range(50)]
    executor.shutdown(wait=wait)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(tasks.add, 1)
    assert [future.result() for future in futures] == list(range(50))
    executor.shutdown()


def test_shutdown_cancels_what_has_not_begun() -> None:
    executor = Executor(1)
    context = garrison.get_context()
    begun, gate = context.Queue(), context.Event()
    first = executor.submit(tasks.report_and_wait, begun, gate)
    begun.get()
    futures = [executor.submit(tasks.add, n) for n in range(50)]
    found: list[Any] = []
    futures[7].add_done_callback(found.append)
    for _ in range(50):
        executor.submit(tasks.die)  # whose futures nobody keeps
    executor.shutdown(wait=False, cancel_futures=True)
    gate.set()
    executor.shutdown()
    assert all(future.cancelled() and future.done() for future in futures)
    assert first.result() > 0
    assert found == [futures[7]]


@pytest.mark.parametrize(("how", "number"), [("kill", 9), ("terminate", 15)])
def test_workers_can_be_ended(how: str, number: int) -> None:
    executor = Executor(1)
    context = garrison.get_context()
    begun, gate = context.Queue(), context.Event()
    first = executor.submit(tasks.report_and_wait, begun, gate)
    begun.get()
    waiting = executor.submit(tasks.add, 1)
    getattr(executor, f"{how}_workers")()
    with pytest.raises(BrokenProcessPool) as caught:
        first.result()
    error: Any = caught.value
    assert error.signal == number
    assert waiting.cancelled()
    with pytest.raises(RuntimeError):
        executor.submit(tasks.add, 1)
    executor.shutdown()


def test_to_end_workers_of_an_executor_without_calls_does_nothing() -> None:
    executor = Executor(1)
    executor.kill_workers()
    executor.terminate_workers()
    with pytest.raises(ValueError, match="Unsupported operation"):
        executor._force_shutdown(operation="stop")


def test_calls_of_a_collected_executor_are_run() -> None:
    executor = Executor(1)
    futures = [executor.submit(tasks.add, n) for n in range(50)]
    collected = weakref.ref(executor)
    del executor
    gc.collect()
    assert collected() is None
    assert [future.result() for future in futures] == list(range(50))
    _wait_for_the_rest()


def test_a_collected_executor_calls_back() -> None:
    executor = Executor(1)
    found: list[int] = []
    for n in range(10):
        executor.submit(tasks.add, n).add_done_callback(lambda done: found.append(done.result()))
    del executor
    _wait_for_the_rest()
    assert sorted(found) == list(range(10))


def _wait_for_the_rest() -> None:
    """As the end of a program does."""
    for work in tuple(_work._unfinished):
        assert work.closed
        work.finish()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("end", ["", "executor.shutdown(wait=False)", "del executor"])
def test_the_program_ends_after_its_calls(method: str, end: str) -> None:
    done = run(f"""
        import garrison, os, time
        def report(future):
            os.write(1, b"called back\\n")
        executor = garrison.Executor(1, garrison.get_context("{method}"))
        executor.submit(time.sleep, 0.2)
        executor.submit(abs, -3).add_done_callback(report)
        executor.submit(os.write, 1, b"apple\\n")
        {end}
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["apple", "called back"]


def test_a_call_at_the_end_of_the_interpreter_is_refused() -> None:
    done = run("""
        import atexit, garrison
        executor, other = garrison.Executor(1), garrison.Executor(1)
        executor.submit(abs, -1).result()
        @atexit.register
        def late():
            for each in (executor, other):
                try:
                    each.submit(abs, -1)
                except RuntimeError as error:
                    print(error)
    """)
    line = "cannot schedule new futures after interpreter shutdown\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, line * 2, "")


def test_a_failing_initializer_is_logged_as_in_the_standard_library() -> None:
    done = run("""
        import garrison
        def initialize():
            raise OSError("no such disk")
        with garrison.Executor(1, initializer=initialize) as executor:
            print(type(executor.submit(abs, -1).exception()).__name__)
    """)
    assert (done.returncode, done.stdout) == (0, "ExecutorBroken\n")
    assert "Exception in initializer:" in done.stderr


def test_a_child_process_ends_after_its_calls(context: Any) -> None:
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_leave_calls, args=(sender,))
    child.start()
    assert sorted(receiver.recv() for _ in range(3)) == [0, 1, 2]
    child.join()
    assert child.exitcode == 0


def _leave_calls(sender: Any) -> None:
    executor = Executor(1)
    for n in range(3):
        executor.submit(tasks.add, n).add_done_callback(lambda done: sender.send(done.result()))


def test_a_forked_child_has_no_use_of_the_executor(executor: Executor) -> None:
    future = executor.submit(tasks.add, 1)
    future.add_done_callback(lambda _: None)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_use, args=(executor, sender))
    child.start()
    assert receiver.recv() == "PoolClosed"
    child.join()
    assert child.exitcode == 0
    assert executor.submit(tasks.add, 2).result() == 2


def _use(executor: Executor, sender: Any) -> None:
    try:
        executor.submit(tasks.add, 1)
    except PoolClosed as error:
        sender.send(type(error).__name__)


def test_a_forked_child_may_have_an_executor_of_its_own(executor: Executor) -> None:
    assert list(concurrent.futures.as_completed([executor.submit(tasks.add, 1)]))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_leave_calls, args=(sender,))
    child.start()
    assert sorted(receiver.recv() for _ in range(3)) == [0, 1, 2]
    child.join()


def test_a_storm_of_kills_costs_the_killed_calls_alone(context: Any) -> None:
    with Executor(2, context) as executor:
        futures = [executor.submit(tasks.answer_or_die, n) for n in range(60)]
        concurrent.futures.wait(futures[:30])
        for n, future in enumerate(futures):
            if n % 10 == 3:
                assert isinstance(future.exception(), BrokenProcessPool)
            else:
                assert future.result() == n


def test_the_supervisors_death_costs_no_waiting_call(executor: Executor) -> None:
    assert executor.submit(tasks.add, 1).result() == 1
    work: Any = executor._work
    os.kill(work.pool.statistics().supervisor_pid, signal.SIGKILL)
    futures = [executor.submit(tasks.add, n) for n in range(20)]
    assert len(concurrent.futures.wait(futures).done) == 20
    assert all(future.exception() is None for future in futures[2:])


def test_an_idle_executor_with_a_thread_uses_no_processor_time(executor: Executor) -> None:
    list(concurrent.futures.as_completed([executor.submit(time.sleep, 0.05)]))
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.2


@pytest.mark.parametrize("how", ["kill", "terminate"])
@pytest.mark.parametrize("watched", [False, True])
def test_calls_of_ended_workers_are_not_tried_again(how: str, watched: bool) -> None:
    executor = Executor(1, retries=5)
    context = garrison.get_context()
    begun, gate = context.Queue(), context.Event()
    future = executor.submit(tasks.report_and_wait, begun, gate)
    begun.get()
    if watched:
        future.add_done_callback(lambda done: begun.put(type(done.exception())))
    getattr(executor, f"{how}_workers")()
    with pytest.raises(BrokenProcessPool):
        future.result()
    executor.shutdown()
    assert not watched or begun.get() is type(future.exception())
    assert begun.empty()


def test_a_callback_may_use_an_executor_that_starts_just_then() -> None:
    ended, later = Executor(1), Executor(1)
    called, gate, found = threading.Event(), threading.Event(), []

    def call_back(done: Any) -> None:
        called.set()
        gate.wait()
        found.append(later.submit(tasks.add, done.result()).result())

    begun, go = garrison.get_context().Queue(), garrison.get_context().Event()
    ended.submit(tasks.report_and_wait, begun, go).add_done_callback(call_back)
    go.set()
    called.wait()
    ended.shutdown(wait=False)
    while not next(each for each in _work._unfinished if each.closed).backend.join(1.0):
        pass
    assert later.submit(tasks.add, 2).result() == 2  # it does not wait for the callback
    gate.set()
    ended.shutdown()
    assert found == [begun.get()]
    later.shutdown()
