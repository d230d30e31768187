"""The holder of a lock dies: the next waiter acquires it and is warned. The living keep theirs."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from garrison.errors import AbandonedLock, OwnerDied
from garrison.sync import Lock, RLock
from sync.forked import Forked
from waiting import wait_until

KINDS = pytest.mark.parametrize("kind", [Lock, RLock])


def die_with(*locks: Lock | RLock) -> None:
    for lock in locks:
        lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def abandon(*locks: Lock | RLock) -> int:
    """Have a child die with all these; its pid."""
    with Forked(die_with, *locks) as child:
        assert child.join() == -signal.SIGKILL
        return child.pid


def stop_with(lock: Lock | RLock) -> None:
    lock.acquire()
    os.kill(os.getpid(), signal.SIGSTOP)


def close_all_descriptors() -> None:
    """As a program does that becomes a daemon; but the test has to hear of it."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if number > 2 and not str(Path(f"/proc/self/fd/{number}").readlink()).startswith(
                "pipe"
            ):
                os.close(number)


def is_free(lock: Lock | RLock) -> bool:
    got: bool = lock.acquire(timeout=0)
    if got:
        lock.release()
    return got


@KINDS
def test_next_owner_inherits_the_lock_and_is_warned_once(kind: type[Lock | RLock]) -> None:
    lock = kind()
    pid = abandon(lock)
    with pytest.warns(
        AbandonedLock, match=rf"process {pid} died while it held this {kind.__name__}"
    ):
        assert lock.acquire()
    assert lock.abandoned
    with Forked(is_free, lock) as child:
        assert child.answer() == "False"
    lock.release()
    with lock:
        assert not lock.abandoned


@KINDS
@pytest.mark.parametrize("timeout", [0, 5, None])
def test_dead_owners_lock_is_acquired_with_any_timeout(
    kind: type[Lock | RLock], timeout: float | None
) -> None:
    lock = kind(on_abandon="ignore")
    abandon(lock)
    assert lock.acquire(timeout=timeout)
    assert lock.abandoned


def test_waiter_inherits_the_lock_of_a_dead_owner() -> None:
    lock = Lock(on_abandon="ignore")
    with Forked(stop_with, lock) as holder:
        wait_until(lock.locked)
        with Forked(lock.acquire) as waiter:
            wait_until(lambda: memoryview(lock._location[0])[3] & 0x80)
            start = time.monotonic()
            holder.kill()
            assert waiter.answer() == "True"
            # Promised are 110 ms. The machine may be busy, but no watchdog is needed.
            assert time.monotonic() - start < 5.0
            assert lock.acquire(), "the waiter has died with it in turn"


def test_lock_stays_abandoned_if_the_warning_is_an_error() -> None:
    lock = Lock()
    pid = abandon(lock)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AbandonedLock)
        for _ in range(2):
            with pytest.raises(AbandonedLock, match=str(pid)):
                lock.acquire()
            assert not lock.abandoned
    with pytest.warns(AbandonedLock, match=str(pid)):
        assert lock.acquire()
    lock.release()


@KINDS
def test_on_abandon_raise_refuses_the_lock_until_it_is_recovered(kind: type[Lock | RLock]) -> None:
    lock = kind(on_abandon="raise")
    pid = abandon(lock)

    def attempt() -> str:
        try:
            with lock:
                return "taken"
        except OwnerDied as error:
            return f"refused, {error.pid == pid}, {pid in map(int, _numbers(str(error)))}"

    for _ in range(2):
        assert attempt() == "refused, True, True"
        with Forked(attempt) as child:
            assert child.answer() == "'refused, True, True'"
    assert lock.recover(timeout=10)
    assert lock.abandoned
    lock.release()
    assert attempt() == "taken"
    assert not lock.abandoned


def _numbers(text: str) -> list[str]:
    return "".join(letter if letter.isdigit() else " " for letter in text).split()


def test_death_after_recover_abandons_the_lock_again() -> None:
    lock = Lock(on_abandon="raise")
    abandon(lock)

    def recover_and_die() -> None:
        lock.recover()
        os.kill(os.getpid(), signal.SIGKILL)

    with Forked(recover_and_die) as child:
        child.join()
    with pytest.raises(OwnerDied, match=str(child.pid)):
        lock.acquire()
    assert lock.recover()


def test_recover_acquires_a_free_lock() -> None:
    lock = Lock(on_abandon="raise")
    assert lock.recover()
    assert not lock.abandoned
    assert not lock.recover(block=False)
    assert not lock.recover(timeout=0.01)
    lock.release()


@KINDS
def test_rlock_depth_is_not_inherited(kind: type[Lock | RLock]) -> None:
    lock = RLock(on_abandon="ignore")
    abandon(lock, lock, lock)
    assert lock.acquire()
    assert lock._semlock._count() == 1
    lock.release()
    with Forked(is_free, lock) as child:
        assert child.answer() == "True"


def test_all_locks_of_a_dead_process_are_inherited() -> None:
    locks = [Lock(on_abandon="ignore") for _ in range(200)]
    abandon(*locks)
    assert all(lock.acquire(timeout=0) for lock in locks)


def test_one_thread_inherits_the_lock() -> None:
    lock, inherited = Lock(on_abandon="ignore"), []
    abandon(lock)

    def take() -> None:
        with lock:
            inherited.append(lock.abandoned)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(inherited) == [False, False, False, True]


@KINDS
def test_stopped_holder_keeps_the_lock(kind: type[Lock | RLock]) -> None:
    lock = kind()
    with Forked(stop_with, lock) as holder:
        wait_until(lock.locked)
        assert not lock.acquire(timeout=0.35)
        assert not lock.acquire(False)
        os.kill(holder.pid, signal.SIGCONT)
        holder.join()
    with pytest.warns(AbandonedLock):
        assert lock.acquire()


def test_holder_that_closed_all_descriptors_keeps_the_lock() -> None:
    lock, end = Lock(on_abandon="ignore"), Lock()
    end.acquire()

    def hold() -> None:
        lock.acquire()
        close_all_descriptors()
        end.acquire()  # the memory is still mapped
        lock.release()

    with Forked(hold) as holder:
        wait_until(lock.locked)
        assert not lock.acquire(timeout=0.35)
        with Forked(lambda: Lock().acquire() and lock.acquire(timeout=0.25)) as other:
            assert other.answer() == "False", "nor is its number given to anybody else"
        end.release()
        assert lock.acquire()
        holder.join()
    assert not lock.abandoned


def test_a_daemon_that_closed_all_descriptors_harms_no_file_of_its_own(tmp_path: Path) -> None:
    lock = Lock()

    def be_a_daemon() -> None:
        lock.acquire()
        close_all_descriptors()
        logs = [os.open(tmp_path / f"{n}.log", os.O_CREAT | os.O_RDWR) for n in range(30)]
        made = [Lock() for _ in range(300)]
        for each in made:
            each.acquire()
        with Forked(lambda: is_free(made[-1])) as child:
            assert child.answer() == "False"
        made.clear()
        gc.collect()
        for number in logs:
            os.write(number, b"still mine")

    with Forked(be_a_daemon) as child:
        assert child.answer() == "None"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["still mine"] * 30


def test_children_forked_after_all_descriptors_were_closed_use_locks_made_before() -> None:
    lock = Lock(on_abandon="ignore")

    def take_and_release() -> tuple[bool, None]:
        taken = lock.acquire(timeout=10)
        lock.release()
        return taken, None

    def close_and_fork() -> list[object]:
        lock.acquire()
        close_all_descriptors()
        with Forked(lambda: lock.acquire(timeout=0)) as child:
            said: list[object] = [child.answer()]
        lock.release()
        with Forked(take_and_release) as child:
            said.append(child.answer())
        with Forked(die_with, lock) as child:
            child.join()
        return [*said, lock.acquire(timeout=10), lock.abandoned]

    with Forked(close_and_fork) as child:
        assert child.answer() == "['False', '(True, None)', True, True]"


def test_the_death_of_a_holder_without_descriptors_is_noticed() -> None:
    lock = Lock(on_abandon="ignore")

    def close_and_die() -> None:
        close_all_descriptors()
        die_with(lock)

    with Forked(close_and_die) as child:
        child.join()
    assert lock.acquire(timeout=10)
    assert lock.abandoned


END = """
import threading, sys
from garrison.sync import Event, Lock
locks = [Lock() for _ in range(8)]
for lock in locks:
    lock.acquire()
started = threading.Semaphore(0)

def contend(lock):
    started.release()
    while True:
        lock.acquire()
        lock.release()
        lock.acquire(False)

for lock in locks:
    threading.Thread(target=contend, args=(lock,), daemon=True).start()
for lock in locks:
    started.acquire()
for lock in locks:
    lock.release()
"""


def test_daemon_threads_that_wait_do_not_abort_the_end_of_a_program() -> None:
    for _ in range(8):
        done = subprocess.run([sys.executable, "-c", END], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
