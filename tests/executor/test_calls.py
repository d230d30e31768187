"""Calls, their results and errors, and `map`."""

from __future__ import annotations

import concurrent.futures
import itertools
import operator
import os
import pickle
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from functools import partial
from typing import Any

import pytest

import garrison
from executor import tasks
from garrison import Executor, WorkerDied
from garrison.executor import ExecutorWorkerDied, Future


def test_it_is_one_class_under_both_names_and_an_executor_of_the_standard_library() -> None:
    assert garrison.Executor is garrison.ProcessPoolExecutor
    assert issubclass(Executor, concurrent.futures.Executor)
    assert issubclass(Future, concurrent.futures.Future)


def test_submit_takes_any_arguments(context: Any) -> None:
    with Executor(1, context) as executor:
        assert executor.submit(tasks.add, 1, b=2).result() == 3
        assert executor.submit(pow, 2, 10).result(timeout=60) == 1024
        assert executor.submit(lambda x: x + 1, 1).result() == 2
        assert executor.submit(dict, self=1, fn=2).result() == {"self": 1, "fn": 2}


def test_a_round_trip_and_a_map_need_no_thread(executor: Executor) -> None:
    threads = threading.active_count()
    assert executor.submit(tasks.add, 1).result() == 1
    assert executor.submit(tasks.add, 1).exception() is None
    assert list(executor.map(abs, range(-100, 0))) == list(range(100, 0, -1))
    assert executor.submit(abs, -1).done() in {True, False}
    assert "Future" in repr(executor.submit(abs, -1))
    assert threading.active_count() == threads


def test_an_error_brings_the_workers_traceback(executor: Executor) -> None:
    with pytest.raises(ValueError, match="wrong") as caught:
        executor.submit(tasks.fail, "wrong").result()
    assert type(caught.value.__cause__) is _RemoteTraceback
    assert "raise ValueError(text)" in str(caught.value.__cause__)


def test_what_cannot_be_pickled_is_the_futures_error(executor: Executor) -> None:
    lock = executor.submit(id, threading.Lock())
    assert isinstance(lock.exception(), (pickle.PicklingError, TypeError))
    with pytest.raises(TypeError, match="cannot pickle"):
        executor.submit(tasks.unpicklable).result()
    with pytest.raises(BrokenProcessPool, match="SystemExit"):
        executor.submit(tasks.leaves_when_unpickled).result()
    assert executor.submit(tasks.add, 1).result() == 1


def test_sys_exit_in_a_call_is_its_error(context: Any) -> None:
    with Executor(1, context) as executor:
        pid = executor.submit(os.getpid).result()
        for _ in range(3):
            error = executor.submit(tasks.leave, 3).exception()
            assert isinstance(error, SystemExit)
            assert error.code == 3
        assert executor.submit(os.getpid).result() == pid


def test_a_dead_worker_costs_one_future(context: Any) -> None:
    with Executor(2, context) as executor:
        before = [executor.submit(tasks.add, n) for n in range(10)]
        dead = executor.submit(tasks.die)
        after = [executor.submit(tasks.add, n) for n in range(10)]
        with pytest.raises(BrokenProcessPool) as caught:
            dead.result()
        assert isinstance(caught.value, WorkerDied)
        assert caught.value.signal == 9
        assert [future.result() for future in before + after] == 2 * list(range(10))


def test_the_error_of_a_dead_worker_can_be_pickled(executor: Executor) -> None:
    error = executor.submit(tasks.die).exception()
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ExecutorWorkerDied
    assert str(again) == str(error)


def test_options_of_pools_hold_for_calls() -> None:
    with Executor(1, timeout=0.05) as executor, pytest.raises(garrison.TaskTimeout):
        executor.submit(time.sleep, 60).result()
    with pytest.raises(TypeError, match="option of pools"):
        Executor(1, progress=True)
    with pytest.raises(ValueError, match="retries"):
        Executor(1, retries=-1)


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_another_engine_runs_the_calls(engine: str) -> None:
    with Executor(2, engine=engine) as executor:
        futures = [executor.submit(tasks.add, n) for n in range(20)]
        done = concurrent.futures.as_completed(futures)
        assert sorted(future.result() for future in done) == list(range(20))
        assert list(executor.map(abs, [-1, -2])) == [1, 2]


def test_a_timeout_leaves_the_call_to_run() -> None:
    context = garrison.get_context()
    begun, gate = context.Queue(), context.Event()
    with Executor(1) as executor:
        future = executor.submit(tasks.report_and_wait, begun, gate)
        begun.get()
        assert future.running()
        for wait in (future.result, future.exception):
            with pytest.raises(concurrent.futures.TimeoutError):
                wait(timeout=0.01)
        gate.set()
        assert future.result() > 0
        assert not future.running()
        assert future.done()


def test_map_reads_its_input_at_once_and_gives_results_in_order(executor: Executor) -> None:
    numbers = iter(range(100))
    results = executor.map(operator.add, numbers, itertools.count())
    assert next(numbers, None) is None
    assert list(results) == list(range(0, 200, 2))


@pytest.mark.parametrize("chunksize", [1, 3, 1000])
def test_a_map_in_chunks_has_the_same_results(executor: Executor, chunksize: int) -> None:
    results = executor.map(operator.add, range(50), range(50), chunksize=chunksize)
    assert list(results) == list(range(0, 100, 2))


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_map_with_a_buffer_reads_no_further(executor: Executor, chunksize: int) -> None:
    numbers = itertools.count()
    results = executor.map(abs, numbers, chunksize=chunksize, buffersize=3)
    assert next(numbers) == 3 * chunksize
    assert [next(results) for _ in range(3)] == [0, 1, 2]


def test_a_failed_map_cancels_the_rest(executor: Executor) -> None:
    results = executor.map(operator.truediv, [1, 1, 1], [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results, None) is None


def test_a_map_ends_at_its_timeout(executor: Executor) -> None:
    with pytest.raises(concurrent.futures.TimeoutError):
        list(executor.map(time.sleep, [0, 0.5], timeout=0.05))


def test_a_map_does_not_keep_its_executor() -> None:
    executor = Executor(1)
    results = executor.map(abs, [-1, -2], buffersize=2)
    collected = weakref.ref(executor)
    work: Any = executor._work
    del executor
    assert collected() is None
    assert list(results) == [1, 2]
    work.finish()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": "2"}, TypeError, "max_workers must be a whole number, not '2'"),
        ({"max_workers": 2.5}, TypeError, "max_workers must be a whole number, not 2.5"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"max_tasks_per_child": "3"}, TypeError, "must be an integer"),
        ({"max_tasks_per_child": 0}, ValueError, "must be >= 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        Executor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": 1.5}, TypeError),
    ],
)
def test_wrong_arguments_of_map_are_refused(executor: Executor, arguments: Any, error: Any) -> None:
    with pytest.raises(error):
        executor.map(abs, [1], **arguments)


def test_an_initializer_runs_before_the_first_call(context: Any) -> None:
    with Executor(1, context, tasks.keep, (7,)) as executor:
        assert executor.submit(tasks.kept).result() == [7]


def test_a_failing_initializer_breaks_the_executor() -> None:
    with Executor(1, initializer=tasks.break_down) as executor:
        with pytest.raises(BrokenProcessPool, match="no such disk"):
            executor.submit(tasks.add, 1).result()
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.add, 1)


def test_workers_are_replaced_after_so_many_calls() -> None:
    with Executor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    with pytest.raises(ValueError, match="incompatible with the 'fork'"):
        Executor(1, garrison.get_context("fork"), max_tasks_per_child=2)


def test_threads_may_submit_at_once(executor: Executor) -> None:
    found: list[int] = []

    def run() -> None:
        found.extend(executor.submit(tasks.add, n).result() for n in range(200))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(4 * list(range(200)))


def test_several_threads_may_wait_for_one_future(executor: Executor) -> None:
    context = garrison.get_context()
    begun, gate = context.Queue(), context.Event()
    future = executor.submit(tasks.report_and_wait, begun, gate)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(future.result())) for _ in range(5)]
    for thread in threads:
        thread.start()
    pid = begun.get()
    gate.set()
    for thread in threads:
        thread.join()
    assert found == [pid] * 5


def test_ended_calls_are_not_kept(executor: Executor) -> None:
    futures = [executor.submit(bytes, 1000) for _ in range(1000)]
    for future in futures:
        future.result()
    work: Any = executor._work
    assert executor.submit(partial(tasks.add, 1)).result() == 1
    for _ in range(20):
        executor.submit(tasks.add, 1).result()
    assert all(call._outcome in {None, (True, None)} for call in work._calls)


def test_a_worker_is_named_and_may_have_children_as_in_the_standard_library(context: Any) -> None:
    with Executor(1, context) as executor:
        name, daemon = executor.submit(tasks.who).result()
    method = context.get_start_method()
    prefix = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[method]
    assert name.startswith(f"{prefix}Process-")
    assert not daemon


@pytest.mark.parametrize("engine", [None, "threads", "serial"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_calls_get_the_state_of_the_initializer(engine: Any, chunksize: int) -> None:
    with Executor(1, initializer=list, pass_state=True, engine=engine) as executor:
        assert list(executor.map(tasks.with_state, range(3), chunksize=chunksize)) == [0, 11, 22]
        call: Any = tasks.with_state  # which gets its first argument there
        assert executor.submit(call, 3).result() == 33
    with pytest.raises(ValueError, match="pass_state"):
        Executor(1, pass_state=True)


@pytest.mark.parametrize("chunksize", [1, 2])
def test_failures_are_returned_if_asked_for(chunksize: int) -> None:
    with Executor(1, on_error="return") as executor:
        first, *others = executor.map(tasks.fail_at_zero, range(3), chunksize=chunksize)
        assert isinstance(first, garrison.Failure)
        assert others == [1, 2]
        assert isinstance(executor.submit(tasks.fail, "so").result(), garrison.Failure)
    with pytest.raises(ValueError, match="on_error='skip' is for pools"):
        Executor(1, on_error="skip")


@pytest.mark.parametrize("chunksize", [1, 2])
def test_shared_arguments_are_seen_through(chunksize: int) -> None:
    with garrison.share([1, 2]) as shared, Executor(1) as executor:
        assert list(executor.map(tasks.length, [shared] * 2, chunksize=chunksize)) == [2, 2]


def test_output_is_shown_and_finalizers_run(capfd: Any) -> None:
    with Executor(1, logs=True, finalizer=print) as executor:
        executor.submit(print, "from a call").result()
    found = capfd.readouterr().out
    assert "from a call" in found
