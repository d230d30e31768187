"""`parallel_config(backend="garrison")`: calls, results, failures, and the life of the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from multiprocessing import TimeoutError as MultiprocessingTimeout
from pathlib import Path
from pickle import PicklingError
from typing import Any, NoReturn

import joblib
import pytest
from joblib import Parallel, delayed, parallel_config

import garrison
import garrison.joblib
from garrison import PoolBroken, PoolTerminated, WorkerDied
from garrison.joblib import GarrisonBackend, _workers
from waiting import wait_until


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    """Under fork: these tests are about calls, and workers that import joblib take a second."""
    with parallel_config(backend="garrison", n_jobs=2, start_method="fork"):
        yield


def square(n: int) -> int:
    return n * n


def fail(n: int) -> int:
    raise LookupError(n)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


# --- Calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
@pytest.mark.parametrize("pre_dispatch", ["all", "2*n_jobs", 3])
def test_results_are_in_the_order_of_the_tasks(batch_size: Any, pre_dispatch: Any) -> None:
    run = Parallel(batch_size=batch_size, pre_dispatch=pre_dispatch)
    assert run(delayed(square)(n) for n in range(500)) == [n * n for n in range(500)]


def test_tasks_run_in_worker_processes() -> None:
    assert os.getpid() not in Parallel()(delayed(os.getpid)() for _ in range(10))


def test_an_empty_call_returns_nothing() -> None:
    assert Parallel()(delayed(square)(n) for n in range(0)) == []


def test_keyword_arguments_and_closures() -> None:
    offset = 10
    run = Parallel()
    assert run(delayed(lambda n, *, by: n * by + offset)(n, by=2) for n in range(3)) == [10, 12, 14]


@pytest.mark.parametrize("n_jobs", [1, 3, -1, -2])
def test_numbers_of_jobs(n_jobs: int) -> None:
    assert Parallel(n_jobs=n_jobs)(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]
    expected = n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)
    assert joblib.effective_n_jobs(n_jobs) == expected


def test_zero_jobs_are_refused() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0)(delayed(square)(n) for n in range(5))


def test_an_unknown_setting_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(TypeError, match=r"'retires'; there are .*retries"):
        parallel_config(backend="garrison", retires=2)


def test_a_generator_yields_results_before_all_tasks_are_done() -> None:
    results = Parallel(return_as="generator", pre_dispatch=2)(delayed(square)(n) for n in range(50))
    assert next(results) == 0
    assert list(results) == [n * n for n in range(1, 50)]


def test_an_unordered_generator_yields_what_is_done() -> None:
    run = Parallel(return_as="generator_unordered")
    assert sorted(run(delayed(square)(n) for n in range(50))) == [n * n for n in range(50)]


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_a_dropped_generator_leaves_the_backend_usable(return_as: str) -> None:
    results = Parallel(return_as=return_as)(delayed(nap)(n / 1000) for n in range(100))
    next(results)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib says that tasks were not used
        del results
    assert Parallel()(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]


def test_calls_of_several_threads_share_the_workers() -> None:
    results: list[Any] = []

    def call() -> None:
        with parallel_config(backend="garrison", n_jobs=2, start_method="fork"):
            results.append(Parallel()(delayed(square)(n) for n in range(100)))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[n * n for n in range(100)]] * 4


# --- Nested calls ---------------------------------------------------------------------------------


def inner_threads() -> set[tuple[int, int]]:
    run = Parallel(n_jobs=2)
    return set(run(delayed(lambda: (os.getpid(), threading.get_native_id()))() for _ in range(4)))


def test_calls_inside_of_tasks_use_threads() -> None:
    for inside in Parallel()(delayed(inner_threads)() for _ in range(4)):
        assert len({pid for pid, _ in inside}) == 1
        assert os.getpid() not in {pid for pid, _ in inside}


def inner_processes() -> tuple[list[int], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with parallel_config(backend="garrison", n_jobs=2):
            found = Parallel()(delayed(square)(n) for n in range(4))
    return found, [str(warning.message) for warning in caught]


def test_a_worker_has_no_workers_of_its_own_and_says_so() -> None:
    for found, messages in Parallel()(delayed(inner_processes)() for _ in range(2)):
        assert found == [0, 1, 4, 9]
        assert "setting n_jobs=1" in messages[0]


# --- Failures -------------------------------------------------------------------------------------


def test_an_exception_arrives_with_the_workers_traceback() -> None:
    with pytest.raises(LookupError) as caught:
        Parallel()(delayed(fail)(n) for n in range(3))
    assert "in fail" in str(caught.value.__cause__)


def test_a_failure_ends_the_call_before_slow_tasks_are_done() -> None:
    calls = [delayed(nap)(600), delayed(fail)(1)]
    with pytest.raises(LookupError):
        Parallel(batch_size=1)(calls)
    assert Parallel()(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]


def test_a_failure_of_the_iterator_of_tasks_is_raised() -> None:
    def tasks() -> Iterator[Any]:
        yield from (delayed(square)(n) for n in range(20))
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        Parallel()(tasks())


@pytest.mark.parametrize("return_as", ["list", "generator_unordered"])
def test_an_argument_that_cannot_be_pickled_is_named(return_as: str) -> None:
    with pytest.raises(PicklingError, match="lock"):
        list(Parallel(return_as=return_as)(delayed(str)(threading.Lock()) for _ in range(9)))


def test_a_call_that_takes_too_long_ends_with_a_timeout() -> None:
    with pytest.raises(MultiprocessingTimeout):
        Parallel(timeout=0.1)(delayed(nap)(600) for _ in range(2))
    assert Parallel()(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]


def notes(error: BaseException) -> list[str]:
    found: list[str] = getattr(error, "__notes__", [])
    return found


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_a_dead_worker_fails_its_call_only(return_as: str) -> None:
    with pytest.raises(WorkerDied) as caught:
        list(Parallel(return_as=return_as)(delayed(die)() for _ in range(2)))
    (note,) = notes(caught.value)
    assert note.startswith("in a batch of 1 task of joblib that begins with die; attempt 1 in a")
    assert Parallel()(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]


def test_an_error_says_in_which_batch_it_was() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        Parallel(batch_size=2)(delayed(divmod)(1, n) for n in (1, 1, 1, 0))
    (note,) = notes(caught.value)
    assert note.startswith("in a batch of 2 tasks of joblib that begins with divmod; attempt 1 in ")


def die_once(path: str) -> str:
    if not Path(path).exists():
        Path(path).touch()
        die()
    return "done"


def test_a_batch_is_tried_again_if_asked_for(tmp_path: Path) -> None:
    with parallel_config(backend="garrison", n_jobs=2, start_method="fork", retries=1):
        found = Parallel()(delayed(die_once)(str(tmp_path / name)) for name in "ab")
    assert found == ["done", "done"]


def test_ctrl_c_ends_the_call_and_its_tasks(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def interrupt() -> None:
        wait_until(begun.exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Parallel()([delayed(begun.touch)(), *[delayed(nap)(600)] * 2])
    thread.join()
    assert Parallel()(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]


# --- The life of the workers ----------------------------------------------------------------------


def nap_and_say_where() -> int:
    time.sleep(0.01)
    return os.getpid()


def pids(**settings: Any) -> set[int]:
    run = Parallel(batch_size=1, **settings)
    return set(run(delayed(nap_and_say_where)() for _ in range(20)))


def test_calls_use_the_same_workers_one_after_the_other() -> None:
    assert len(pids() | pids()) == 2
    with Parallel() as run:
        within = {pid for _ in range(3) for pid in run(delayed(os.getpid)() for _ in range(9))}
    assert within <= pids()


def test_other_settings_get_other_workers() -> None:
    before = pids()
    assert not before & pids(n_jobs=3)
    with parallel_config(
        backend="garrison", n_jobs=2, start_method="fork", initializer=nap, initargs=(0,)
    ):
        assert not before & pids()


def test_idle_workers_end_after_their_time() -> None:
    with parallel_config(
        backend="garrison", n_jobs=2, start_method="fork", idle_worker_timeout=0.05
    ):
        before = pids()
    wait_until(lambda: _workers._kept is None)
    wait_until(lambda: "garrison-joblib-idle" not in {each.name for each in threading.enumerate()})
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)


def test_a_forked_child_has_workers_of_its_own() -> None:
    before = pids()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with parallel_config(backend="garrison", n_jobs=2, start_method="fork"):
                status = int(bool(before & pids()))
            garrison.joblib.shutdown()
        finally:
            os._exit(status)
    os.close(reader)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pids() == before


SETTINGS: list[str] = []


def setting() -> list[str]:
    return SETTINGS


def test_an_initializer_runs_in_each_worker() -> None:
    with parallel_config(
        backend="garrison",
        n_jobs=2,
        start_method="fork",
        initializer=SETTINGS.append,
        initargs=("up",),
    ):
        assert Parallel(batch_size=1)(delayed(setting)() for _ in range(10)) == [["up"]] * 10


def test_an_instance_of_the_backend_needs_no_registration() -> None:
    with parallel_config(backend=GarrisonBackend(start_method="fork"), n_jobs=2):
        assert Parallel()(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]


# --- Inner threads --------------------------------------------------------------------------------


def test_workers_share_the_processors_among_their_inner_threads() -> None:
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    share = os.environ.get("OMP_NUM_THREADS", str(max(1, joblib.cpu_count() // 2)))
    found = Parallel()(delayed(lambda: [os.environ[name] for name in variables])() for _ in "ab")
    assert found[0][0] == share
    with parallel_config(
        backend="garrison", n_jobs=2, start_method="fork", inner_max_num_threads=3
    ):
        found = Parallel()(delayed(lambda: [os.environ[v] for v in variables])() for _ in "ab")
    assert found == [["3", "3", "3"]] * 2


def loaded_threads() -> list[int]:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    return [each["num_threads"] for each in threadpoolctl.threadpool_info()]


def test_libraries_that_workers_have_already_are_limited_too() -> None:
    pytest.importorskip("threadpoolctl")
    pytest.importorskip("numpy")
    with parallel_config(
        backend="garrison", n_jobs=2, start_method="fork", inner_max_num_threads=1
    ):
        for found in Parallel()(delayed(loaded_threads)() for _ in range(2)):
            assert set(found) <= {1}


# --- Start methods --------------------------------------------------------------------------------


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_fresh_workers(method: str) -> None:
    with parallel_config(backend="garrison", n_jobs=2, start_method=method):
        assert Parallel()(delayed(lambda n: n + 1)(n) for n in range(5)) == [1, 2, 3, 4, 5]


@pytest.mark.watchdog(120)
def test_a_script_without_a_guard_needs_none(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import garrison.joblib\n"
        "from joblib import Parallel, delayed, parallel_config\n"
        "def double(n):\n    return 2 * n\n"
        "with parallel_config(backend='garrison', n_jobs=2):\n"
        "    print(Parallel()(delayed(double)(n) for n in range(4)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[0, 2, 4, 6]\n", "")


# --- Ends in the middle of a call -----------------------------------------------------------------


def test_a_call_whose_workers_are_ended_fails() -> None:
    ending = threading.Thread(target=_end_workers_at_work)
    ending.start()
    with pytest.raises(PoolTerminated):
        Parallel()(delayed(nap)(60) for _ in range(4))
    ending.join()
    assert Parallel()([delayed(square)(2)]) == [4]


def _end_workers_at_work() -> None:
    wait_until(lambda: _workers._kept is not None and _workers._kept.pool._backend.busy == 2)
    garrison.joblib.shutdown()


def test_a_failing_initializer_fails_the_call() -> None:
    failing = {"backend": "garrison", "n_jobs": 2, "initializer": break_down}
    with pytest.raises(PoolBroken), parallel_config(start_method="fork", **failing):
        Parallel()(delayed(square)(n) for n in range(4))
    assert Parallel()([delayed(square)(2)]) == [4]


def break_down() -> NoReturn:
    raise OSError("no such disk")


def test_a_child_that_is_forked_in_a_call_may_end(capfd: pytest.CaptureFixture[str]) -> None:
    results = Parallel(return_as="generator")(delayed(square)(n) for n in range(50))
    assert next(results) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            del results
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert sum(results) == sum(n * n for n in range(50))
    assert "Traceback" not in capfd.readouterr().err
