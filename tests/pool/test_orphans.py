"""Processes that tasks leave behind: which end with a worker, and which do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison._os import ProcessStatus
from garrison._os.process_watch import ProcessWatch
from garrison.supervisor._orphans import find_descendants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def start_sleeper(path: Path, *, own_session: bool = False) -> int:
    """Start a process, and write down which."""
    process = subprocess.Popen(
        ["sleep", "600"],
        start_new_session=own_session,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path.write_text(str(process.pid))
    return process.pid


def start_and_die(path: Path, own_session: bool) -> None:
    start_sleeper(path, own_session=own_session)
    os.kill(os.getpid(), signal.SIGKILL)


def start_and_stay(path: Path, own_session: bool) -> None:
    start_sleeper(path, own_session=own_session)
    time.sleep(600)


def start_between_and_stay(path: Path, own_session: bool) -> None:
    """Start a process whose parent is not the worker."""
    if not os.fork():
        start_sleeper(path, own_session=own_session)
        time.sleep(600)
    time.sleep(600)


def watch(path: Path) -> ProcessWatch:
    return ProcessWatch(int(path.read_text()))


def is_alive(sleeper: ProcessWatch) -> bool:
    return not sleeper.has_ended()


def end(path: Path) -> None:
    os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("own_session", [False, True])
def test_children_of_a_killed_task_are_killed(
    context: Any, tmp_path: Path, own_session: bool
) -> None:
    path = tmp_path / "pid"
    with context.Pool(1) as pool:
        with pytest.raises(garrison.WorkerDied):
            pool.apply(start_and_die, (path, own_session))
        sleeper = watch_or_none(path)
        pool.apply(abs, (1,))
        check(sleeper, path, lives=own_session)


@pytest.mark.parametrize("start", [start_and_stay, start_between_and_stay])
@pytest.mark.parametrize("own_session", [False, True])
def test_children_of_a_timed_out_task_are_killed(
    context: Any, tmp_path: Path, start: Callable[..., None], own_session: bool
) -> None:
    path = tmp_path / "pid"
    with context.Pool(1) as pool:
        pool.apply(do_nothing)  # has this module imported, which may take long
        with pytest.raises(garrison.TaskTimeout):
            pool.options(timeout=2).apply(start, (path, own_session))
        check(watch_or_none(path), path, lives=own_session)


def do_nothing() -> None:
    pass


def watch_or_none(path: Path) -> ProcessWatch | None:
    try:
        return watch(path)
    except ProcessLookupError:
        return None


def check(sleeper: ProcessWatch | None, path: Path, *, lives: bool) -> None:
    if lives:
        assert sleeper is not None
        assert is_alive(sleeper)
        end(path)
    if sleeper is not None:
        assert sleeper.wait(20)
        sleeper.close()


@pytest.mark.parametrize("how", ["close", "terminate", "recycle"])
def test_children_of_an_earlier_task_live_on(context: Any, tmp_path: Path, how: str) -> None:
    path = tmp_path / "pid"
    lifetime = 1 if how == "recycle" else None
    with context.Pool(1, maxtasksperchild=lifetime) as pool:
        pool.apply(start_sleeper, (path,))
        sleeper = watch(path)
        pool.apply(abs, (1,))
        if how != "recycle":
            getattr(pool, how)()
            pool.join()
        assert is_alive(sleeper)
    assert is_alive(sleeper)
    end(path)
    assert sleeper.wait(20)
    sleeper.close()


def test_children_of_tasks_are_killed_by_terminate(context: Any, tmp_path: Path) -> None:
    earlier, present = tmp_path / "earlier", tmp_path / "present"
    os.mkfifo(tmp_path / "ready")
    with context.Pool(1) as other, context.Pool(2) as pool:
        other.apply(start_sleeper, (earlier,))
        pool.apply_async(start_and_tell, (present, tmp_path / "ready"))
        (tmp_path / "ready").read_text()
        sleepers = watch(earlier), watch(present)
        pool.terminate()
        assert sleepers[1].wait(20)
        assert is_alive(sleepers[0])
    end(earlier)
    assert sleepers[0].wait(20)
    for each in sleepers:
        each.close()


def start_and_tell(path: Path, ready: Path) -> None:
    start_sleeper(path)
    ready.write_text("ready")
    time.sleep(600)


PROGRAM = """
import garrison, os, subprocess, sys, signal
from pathlib import Path
def start(path):
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    process = subprocess.Popen(["sleep", "600"], start_new_session=True, **quiet)
    Path(path).write_text(str(process.pid))
if __name__ == "__main__":
    pool = garrison.Pool(1)
    pool.apply(start, (sys.argv[1],))
    pool.apply_async(signal.pause)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_detached_process_outlives_the_program(tmp_path: Path, how: str) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "pid"), how]
    done = subprocess.run(command, check=False)
    assert done.returncode == (0 if how == "exit" else -signal.SIGKILL)
    sleeper = watch(tmp_path / "pid")
    assert not sleeper.wait(0.2)
    end(tmp_path / "pid")
    assert sleeper.wait(20)
    sleeper.close()


# --- Descendants of a supervisor, without a process ---------------------------------------------


def seen(parent: int, session: int = 1, started: int = 5, state: str = "S") -> ProcessStatus:
    return ProcessStatus(state, parent, 0, session, started)


def test_descendants_in_the_workers_session_are_found() -> None:
    table = {
        10: seen(2),  # adopted
        11: seen(10),  # below it
        12: seen(10, session=12),  # with a session of its own
        13: seen(12, session=12),
        14: seen(2, session=99),  # of the dead worker's session
        20: seen(2),  # a worker
        21: seen(20),
        30: seen(2, started=7),  # spared
        31: seen(30),
        40: seen(2, started=9),  # has the number of one that was spared
        50: seen(2, state="Z"),
        60: seen(1),
    }
    found = find_descendants(table, 2, {20}, {30: 7, 40: 8}, {1, 99})
    assert sorted(found) == [10, 11, 14, 40]
