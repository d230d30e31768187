"""How pools begin and end, over every engine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison.errors import PoolBroken, PoolClosed, PoolTerminated
from waiting import wait_until

from . import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from .subjects import Subject
    from .tasks import Marks

    MakeMarks = Callable[[str], Marks]

TESTS = Path(__file__).parent.parent


# --- The initializer ------------------------------------------------------------------------------


def test_initializer_runs_before_the_first_task(engine: Subject) -> None:
    try:
        with engine.pool(2, tasks.begin, ("given",)) as pool:
            assert set(pool.map(tasks.what_was_given, range(20), chunksize=1)) == {"given"}
    finally:
        tasks.begin(None)


@pytest.mark.needs("own_globals")
def test_initializer_runs_in_the_workers_only(engine: Subject) -> None:
    with engine.pool(1, tasks.begin, (["a"],)) as pool:
        assert pool.apply(tasks.what_was_given) == ["a"]
    assert tasks.given is None


@pytest.mark.needs("own_workers")
def test_initializer_runs_once_for_each_worker(engine: Subject, marks: MakeMarks) -> None:
    begun = marks("begun")
    with engine.pool(1, tasks.mark, (begun,)) as pool:
        pool.map(tasks.square, range(20), chunksize=1)
        assert begun.count() == 1


def test_failing_initializer_breaks_the_pool(
    engine: Subject, capfd: pytest.CaptureFixture[str]
) -> None:
    error = (PoolBroken, r"initializer[\s\S]*no such database")
    with pytest.raises(error[0], match=error[1]), engine.pool(1, tasks.begin_badly) as pool:
        pool.apply(tasks.square, (2,))
    capfd.readouterr()


@pytest.mark.needs("own_workers")
def test_initializer_by_value(engine: Subject, marks: MakeMarks) -> None:
    begun = marks("begun")
    with engine.pool(1, lambda: begun.add() or None) as pool:
        assert pool.apply(tasks.square, (3,)) == 9
        assert begun.count() == 1


def test_initializer_must_be_callable(engine: Subject) -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="initializer must be callable"):
        engine.pool(1, wrong)


# --- The lifetime of workers ----------------------------------------------------------------------


def test_maxtasksperchild_is_accepted(engine: Subject) -> None:
    if "lifetime" in engine.lacks and engine.lacks["lifetime"].startswith("refused"):
        with pytest.raises(ValueError, match="maxtasksperchild"):
            engine.pool(1, None, (), 2)
        return
    with engine.pool(1, None, (), 2) as pool:
        assert pool.map(tasks.square, range(6), chunksize=1) == [n * n for n in range(6)]
        assert pool._maxtasksperchild == 2
    with pytest.raises(ValueError, match="maxtasksperchild"):
        engine.pool(1, None, (), 0)


@pytest.mark.needs("lifetime")
def test_worker_is_replaced_after_its_last_task(engine: Subject, marks: MakeMarks) -> None:
    begun = marks("begun")
    with engine.pool(1, tasks.mark, (begun,), 2) as pool:
        for n in range(6):
            assert pool.apply(tasks.square, (n,)) == n * n
        wait_until(lambda: begun.count() >= 3)


# --- The end --------------------------------------------------------------------------------------


def test_close_and_join_wait_for_all_tasks(engine: Subject) -> None:
    pool = engine.pool(2)
    results = [pool.apply_async(tasks.square, (n,)) for n in range(50)]
    many = pool.map_async(tasks.square, range(500), chunksize=1)
    pool.close()
    pool.join()
    assert [result.get() for result in results] == [n * n for n in range(50)]
    assert many.get() == [n * n for n in range(500)]


def test_unread_iterator_is_finished_by_join(engine: Subject, marks: MakeMarks) -> None:
    done = marks("done")
    pool = engine.pool(2)
    results = pool.imap(lambda n: tasks.mark(done, n), list(range(30)))
    pool.close()
    pool.join()
    assert done.count() == 30
    assert list(results) == list(range(30))


def test_closed_pool_takes_no_task(engine: Subject) -> None:
    pool = engine.pool(1)
    pool.close()
    for call in (pool.apply, pool.apply_async, pool.map, pool.imap, pool.starmap_async):
        arguments = (abs,) if call in (pool.apply, pool.apply_async) else (abs, [1])
        with pytest.raises(PoolClosed):
            call(*arguments)
    pool.join()
    assert "closed" in repr(pool)


def test_join_of_a_running_pool_is_an_error(pool: garrison.Pool) -> None:
    with pytest.raises(ValueError, match="still running"):
        pool.join()


def test_terminate_without_tasks(engine: Subject) -> None:
    pool = engine.pool(2)
    pool.terminate()
    pool.terminate()
    pool.join()
    assert "terminated" in repr(pool)
    with pytest.raises(PoolClosed):
        pool.apply(abs, (1,))


@pytest.mark.needs("termination")
def test_terminate_ends_running_tasks(engine: Subject, marks: MakeMarks) -> None:
    begun = marks("begun")
    pool = engine.pool(2)
    results = [pool.apply_async(tasks.stay, (begun,)) for _ in range(4)]
    begun.wait_for(2)
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(PoolTerminated):
            result.get(timeout=tasks.WAIT_S)
    assert begun.count() == 2


@pytest.mark.needs("parallel")
def test_terminate_wakes_threads_that_wait(engine: Subject, marks: MakeMarks) -> None:
    go, begun, found = marks("go"), marks("begun"), []
    pool = engine.pool(1)
    running = pool.apply_async(tasks.wait_for, (go, 1))
    waiting = pool.apply_async(tasks.mark, (begun,))

    def wait() -> None:
        try:
            waiting.get()
        except PoolTerminated as error:
            found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    if "termination" in engine.lacks:
        go.add()
        running.wait()
    pool.terminate()
    thread.join(tasks.WAIT_S)
    pool.join()
    assert len(found) == 1 or begun.count() == 1


def test_with_block_ends_the_pool(engine: Subject) -> None:
    with engine.pool(1) as pool:
        assert pool.apply(tasks.square, (2,)) == 4
    pool.join()
    with pytest.raises(PoolClosed):
        pool.apply(abs, (1,))
    with pytest.raises(PoolClosed), pool:
        pass


def test_two_pools_at_the_same_time(engine: Subject) -> None:
    with engine.pool(1) as first, engine.pool(1) as second:
        assert first.map(tasks.square, [1, 2]) == [1, 4]
        assert second.map(tasks.square, [3]) == [9]
        first.terminate()
        assert second.map(tasks.square, [4]) == [16]


def test_pool_that_is_dropped_warns(engine: Subject) -> None:
    pool = engine.pool(1)
    pool.apply(abs, (1,))
    with pytest.warns(ResourceWarning, match="unclosed"):
        del pool


def test_number_of_workers_must_be_positive(engine: Subject) -> None:
    with pytest.raises(ValueError, match="Number of processes must be at least 1"):
        engine.pool(0)


def test_start_method_of_a_context_does_not_matter(engine: Subject) -> None:
    with garrison.get_context("spawn").Pool(1, engine=engine.engine()) as pool:
        assert pool.apply(tasks.square, (2,)) == 4


FOREIGN = "this pool belongs to"


@pytest.mark.needs("parallel", "forks")
def test_forked_child_has_no_pool(engine: Subject) -> None:
    def use(pool: garrison.Pool, connection: Any) -> None:
        told: list[str] = []
        for call in (pool.apply, pool.map, pool.imap):
            try:
                told.append(str(call(abs, [1])))
            except ValueError as error:
                told.append(str(error)[: len(FOREIGN)])
        connection.send(told)

    with engine.pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=use, args=(pool, theirs))
        child.start()
        try:
            assert ours.poll(tasks.WAIT_S)
            assert ours.recv() == [FOREIGN] * 3
        finally:
            child.kill()
            child.join()
            child.close()
            ours.close()
            theirs.close()
        assert pool.apply(abs, (-2,)) == 2


LEFT_OPEN = """
import garrison

if __name__ == "__main__":
    pool = garrison.Pool(2)
    print(pool.map(abs, [-1, 2]))
    results = pool.imap(abs, range(10))
    print(next(results))
"""


@pytest.mark.watchdog(150)
@pytest.mark.needs("by_name")
def test_program_that_does_not_close_its_pool_ends(engine: Subject, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(LEFT_OPEN)
    done = subprocess.run(
        [sys.executable, str(path)],
        env=environment_of(engine),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split("\n") == ["[1, 2]", "0", ""], done.stderr
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def environment_of(engine: Subject) -> dict[str, str]:
    search = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "GARRISON_ENGINE": engine.text, "PYTHONPATH": search}


# --- Ctrl-C ---------------------------------------------------------------------------------------

INTERRUPTED = """
import sys
import garrison
from engines import tasks

if __name__ == "__main__":
    begun = tasks.Marks(sys.argv[1])
    pool = garrison.Pool(2)
    assert pool.map(tasks.square, [1, 2]) == [1, 4]
    print("begins", flush=True)
    try:
        with pool:
            pool.map(SLOW, [begun] * 100, chunksize=1)
    except KeyboardInterrupt:
        pool.join()
        print("interrupted", flush=True)
"""


@pytest.mark.watchdog(150)
@pytest.mark.needs("by_name")
@pytest.mark.parametrize("signalled", ["program", "group"])
def test_interrupt_ends_a_map_and_the_pool(
    engine: Subject, tmp_path: Path, marks: MakeMarks, signalled: str
) -> None:
    # What cannot be ended from outside runs to its end.
    ends = "termination" not in engine.lacks or "interrupt" not in engine.lacks
    slow = "tasks.stay" if ends else "lambda marks: tasks.stay(marks, 0.2)"
    path = tmp_path / "program.py"
    path.write_text(INTERRUPTED.replace("SLOW", slow))
    program = subprocess.Popen(
        [sys.executable, str(path), str(tmp_path / "begun")],
        env=environment_of(engine),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        marks("begun").wait_for(1)
        if signalled == "group":
            os.killpg(program.pid, signal.SIGINT)
        else:
            program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    finally:
        program.kill()
        program.communicate()
    assert out.split() == ["begins", "interrupted"], err
    assert program.returncode == 0, err
    assert marks("begun").count() < 100
