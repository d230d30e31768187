"""The workers that the core forks, and the supervisor that waits in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison._os.process_watch import has_ended
from waiting import wait_until

FORK = garrison.get_context("fork")

# --- What a program sees of the forks -------------------------------------------------------------

HOOKS = """
import os
import sys
import garrison

def note(what):
    os.write(1, f"{what} {os.getpid()}\\n".encode())

sys.addaudithook(lambda event, _: note("audit") if event == "os.fork" else None)
os.register_at_fork(
    before=lambda: note("before"),
    after_in_parent=lambda: note("parent"),
    after_in_child=lambda: note("child"),
)
if __name__ == "__main__":
    pool = garrison.get_context("fork").Pool(2)
    assert pool.map(abs, range(-4, 0), 1) == [4, 3, 2, 1]
    note("program")
    note("supervisor" if pool.statistics().supervisor_pid == os.getpid() else "self")
    pool.close()
    pool.join()
"""


def test_hooks_run_once_in_the_program_and_in_each_worker_and_not_in_the_supervisor() -> None:
    lines = [line.split() for line in run(HOOKS).splitlines()]
    program = next(pid for what, pid in lines if what == "program")
    for what in ("audit", "before", "parent"):
        assert [pid for each, pid in lines if each == what] == [program]
    workers = [pid for what, pid in lines if what == "child"]
    assert len(workers) == len(set(workers) - {program}) == 2


THREADS = """
import threading
import warnings
import garrison

if __name__ == "__main__":
    warnings.simplefilter("error", DeprecationWarning)
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        with garrison.get_context("fork").Pool(1) as pool:
            print(pool.apply(abs, (-1,)))
    except DeprecationWarning as warning:
        print(warning)
    end.set()
"""


def test_a_program_with_threads_is_warned_as_by_os_fork() -> None:
    text = run(THREADS)
    if sys.version_info >= (3, 12):
        assert "is multi-threaded, use of fork() may lead to deadlocks" in text
    else:
        assert text == "1\n"


def run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


# --- Starts ---------------------------------------------------------------------------------------


IGNORED = """
import signal
import garrison

if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    pool = garrison.get_context("fork").Pool(2)
    assert pool.apply(signal.getsignal, (signal.SIGCHLD,)) == signal.SIG_IGN
    pool.close()
    pool.join()
    print("joined")
"""


def test_a_pool_ends_in_a_program_that_ignores_the_ends_of_children() -> None:
    assert run(IGNORED) == "joined\n"


FAILED = """
import os
import resource
import garrison

if __name__ == "__main__":
    garrison.Lock()
    limit = len(os.listdir("/proc/self/fd")) + 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    try:
        garrison.get_context("fork").Pool(64)
    except OSError as error:
        print(error)
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        print("no child is left")
"""


def test_a_start_that_fails_in_the_supervisor_is_reported_and_leaves_nothing() -> None:
    lines = run(FAILED).splitlines()
    assert "Too many open files" in lines[0]
    assert lines[1] == "no child is left"


class Noting(type(FORK.Process())):  # type: ignore[misc]
    """A process that notes where it was made."""

    made = 0

    def __init__(self, *args: Any, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        self.made_in = os.getpid()


class OwnContext(type(FORK)):  # type: ignore[misc]
    Process = Noting


def made_in() -> int:
    from multiprocessing import current_process

    place: int = current_process().made_in  # type: ignore[attr-defined]
    return place


def test_a_process_with_an_init_of_its_own_is_made_in_the_supervisor() -> None:
    with OwnContext().Pool(1) as pool:
        assert pool.apply(made_in) == pool.statistics().supervisor_pid


# --- What needs a decision ------------------------------------------------------------------------


def test_an_idle_worker_that_dies_is_replaced() -> None:
    with FORK.Pool(2) as pool:
        first, second = pool.statistics().worker_pids
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: {first} != set(pool.statistics().worker_pids) - {second} != set())
        assert pool.map(abs, range(-4, 0), 1) == [4, 3, 2, 1]


def test_a_worker_that_was_stopped_and_continued_goes_on() -> None:
    with FORK.Pool(1) as pool:
        worker = pool.apply(os.getpid)
        os.kill(worker, signal.SIGSTOP)
        result = pool.apply_async(os.getpid)
        os.kill(worker, signal.SIGCONT)
        assert result.get(20) == worker


def test_a_timeout_that_comes_later_is_kept() -> None:
    with FORK.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        with pytest.raises(garrison.TaskTimeout):
            pool.options(timeout=0.1).apply(time.sleep, (60,))


def start_sleeper(path: str) -> int:
    """Start a process, and write down which, and whose it is."""
    sleeper = subprocess.Popen(
        ["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    Path(path).write_text(f"{os.getpid()} {sleeper.pid}")
    return sleeper.pid


def start_sleeper_and_stay(path: str) -> None:
    start_sleeper(path)
    time.sleep(600)


@pytest.mark.watchdog(60)
def test_what_a_worker_has_left_survives_the_death_of_another_in_a_closed_pool(
    tmp_path: Path,
) -> None:
    place = tmp_path / "sleeper"
    pool = FORK.Pool(2)
    lost = pool.apply_async(start_sleeper_and_stay, (str(place),))
    wait_until(lambda: place.exists() and place.read_text())
    busy, killed = map(int, place.read_text().split())
    spared = pool.apply(start_sleeper, (str(tmp_path / "other"),))
    idle = next(pid for pid in pool.statistics().worker_pids if pid != busy)
    try:
        pool.close()
        wait_until(lambda: idle not in pool.statistics().worker_pids)
        os.kill(busy, signal.SIGKILL)
        with pytest.raises(garrison.WorkerDied):
            lost.get(20)
        pool.join()
        assert has_ended(killed)
        assert not has_ended(spared)
    finally:
        os.kill(spared, signal.SIGKILL)
        wait_until(lambda: has_ended(spared))
