"""A worker among the processes of a program: names, parents, children, exit codes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import garrison

# --- What a worker says of itself ----------------------------------------------------------------


def identity() -> tuple[Any, ...]:
    me: Any = multiprocessing.current_process()
    parent: Any = multiprocessing.parent_process()
    return (
        me.name,
        me._identity,
        me.daemon,
        me._parent_pid,
        me._parent_name,
        parent.pid,
        parent.name,
    )


def test_a_worker_is_a_daemonic_child_of_the_program(context: Any) -> None:
    with context.Pool(2) as pool:
        name, number, daemon, *parents = pool.apply(identity)
    kind = context.Process.__name__.replace("Process", "Pool")
    assert name == f"{kind}Worker-{number[0]}"
    assert daemon
    me = multiprocessing.current_process()
    assert parents == [os.getpid(), me.name, os.getpid(), me.name]


def test_names_go_on_over_pools_and_processes(context: Any) -> None:
    before = number_of(context.Process(target=abs).name)
    seen = []
    for _ in range(2):
        with context.Pool(1) as pool:
            seen.append(number_of(pool.apply(identity)[0]))
    after = number_of(context.Process(target=abs).name)
    assert [before + 1, before + 2, before + 3] == [*seen, after]


def test_the_successor_of_a_worker_has_the_next_number(context: Any) -> None:
    with context.Pool(1, maxtasksperchild=1) as pool:
        first, second = (number_of(pool.apply(identity)[0]) for _ in range(2))
    assert second == first + 1


def number_of(name: str) -> int:
    return int(name.rpartition("-")[2])


NAMES_IN_A_POOL = """
import sys
import garrison

def name():
    return garrison.current_process().name

def name_in_a_pool(method):
    with garrison.get_context(method).Pool(1) as pool:
        return pool.apply(name)

if __name__ == "__main__":
    with garrison.get_context("fork").Pool(1) as outer:
        print(outer.apply(name), outer.apply(name_in_a_pool, (sys.argv[1],)))
"""


def test_a_workers_own_pool_numbers_its_workers_below_it(method: str, tmp_path: Path) -> None:
    # In a program of its own: one with hundreds of processes that have pools skips numbers.
    program = tmp_path / "names.py"
    program.write_text(NAMES_IN_A_POOL)
    command = [sys.executable, str(program), method]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    outer, inner = done.stdout.split()
    assert inner.partition("-")[2] == f"{outer.partition('-')[2]}:1"


def count_on() -> tuple[int, int]:
    read, write = os.pipe()
    number = number_of(multiprocessing.Process(target=abs).name)
    if not os.fork():
        os.write(write, multiprocessing.Process(target=abs).name.encode())
        os._exit(0)
    os.wait()
    theirs = number_of(os.read(read, 100).decode())
    os.close(read)
    os.close(write)
    return theirs - number, number_of(multiprocessing.Process(target=abs).name) - theirs


def test_a_forked_process_numbers_for_itself() -> None:
    with garrison.get_context("fork").Pool(1):
        ahead, behind = count_on()
    assert ahead == 1
    assert 0 <= behind <= 1


# --- Children of workers -------------------------------------------------------------------------


def child_is_daemonic(context: Any) -> tuple[bool, bool, int | None]:
    process = context.Process(target=abs, args=(1,))
    process.start()
    process.join()
    return multiprocessing.current_process().daemon, process.daemon, process.exitcode


def test_a_worker_may_have_children(context: Any) -> None:
    with context.Pool(2) as pool:
        assert pool.apply(child_is_daemonic, (context,)) == (True, True, 0)


def use_an_executor() -> list[int]:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        return list(executor.map(abs, [-1, -2]))


def test_a_task_may_use_an_executor(context: Any) -> None:
    with context.Pool(2) as pool:
        assert pool.apply(use_an_executor) == [1, 2]


def start_a_daemon() -> int:
    process = multiprocessing.get_context("fork").Process(target=signal.pause, daemon=True)
    process.start()
    assert process.pid is not None
    return process.pid


@pytest.mark.parametrize("end", ["terminate", "close", "kill"])
def test_daemonic_children_end_with_their_worker(context: Any, end: str) -> None:
    with context.Pool(1) as pool:
        pid = pool.apply(start_a_daemon)
        fd = os.pidfd_open(pid)
        if end == "kill":
            pool._pool[0].kill()
        else:
            getattr(pool, end)()
            pool.join()
        assert connection.wait([fd], 20)
    os.close(fd)


# --- The workers, seen by the program ------------------------------------------------------------


def test_the_workers_are_among_the_active_children(context: Any) -> None:
    with context.Pool(2) as pool:
        check_active_children(pool)


def check_active_children(pool: Any) -> None:
    pids = set(pool.statistics().worker_pids)
    for listed in (garrison.active_children(), multiprocessing.active_children()):
        workers = [each for each in listed if each.pid in pids]
        assert len(workers) == len(pids) == 2
        assert all(isinstance(each, BaseProcess) for each in workers)
        assert all(each.daemon and each.is_alive() and each.exitcode is None for each in workers)
        assert pool.statistics().supervisor_pid not in {each.pid for each in listed}
    assert {each.pid for each in pool._pool} == pids
    assert {each.name for each in pool._pool} == {each.name for each in workers}


def test_a_terminated_pools_workers_are_no_longer_active(context: Any) -> None:
    with context.Pool(2) as pool:
        pool.apply(abs, (1,))
        workers = pool._pool
    ours = {each.pid for each in workers}
    assert not ours & {each.pid for each in multiprocessing.active_children()}
    assert {each.exitcode for each in workers} == {-signal.SIGTERM}


@pytest.mark.parametrize(
    ("how", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)]
)
def test_a_worker_can_be_ended_and_waited_for(context: Any, how: str, number: int) -> None:
    with context.Pool(2) as pool:
        check_end(pool, how, number)


def check_end(pool: Any, how: str, number: int) -> None:
    worker = pool._pool[0]
    assert connection.wait([worker.sentinel], 0) == []
    assert worker.join(0) is None
    assert worker.is_alive()
    getattr(worker, how)()
    worker.join()
    assert (worker.exitcode, worker.is_alive()) == (-number, False)
    assert connection.wait([worker.sentinel], 0) == [worker.sentinel]
    assert worker not in multiprocessing.active_children()
    assert f"exitcode=-{signal.Signals(number).name}" in repr(worker)
    worker.close()
    assert pool.map(abs, [-1, -2]) == [1, 2]


def test_the_exit_code_of_a_worker_that_left_is_its_own(context: Any) -> None:
    with context.Pool(1, maxtasksperchild=1) as pool:
        worker = pool._pool[0]
        pool.apply(abs, (1,))
        worker.join()
        assert worker.exitcode == 0


def test_workers_of_a_dead_supervisor_are_dead(context: Any) -> None:
    with context.Pool(1) as pool:
        worker = pool._pool[0]
        os.kill(pool.statistics().supervisor_pid, signal.SIGKILL)
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        assert pool.apply(abs, (-1,)) == 1
        assert pool._pool[0].is_alive()
