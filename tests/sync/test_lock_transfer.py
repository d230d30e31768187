"""Locks are sent to children, tasks and unrelated processes; or an error says why not."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from ast import literal_eval
from collections.abc import Iterator
from typing import IO, Any

import pytest

import garrison
from garrison import _os
from garrison._pickling import dumps
from garrison.errors import OwnerDied, SharedMemoryGone
from garrison.sync import BoundedSemaphore, Lock, RLock, holders

from .forked import Forked

METHODS = ("fork", "spawn", "forkserver")
KINDS = pytest.mark.parametrize("kind", [Lock, RLock])
WITH_METHODS = pytest.mark.parametrize("method", METHODS)


def hold_until_told(lock: Lock | RLock, held: Lock, end: Lock) -> None:
    with lock:
        held.release()
        end.acquire()


def is_free(lock: Lock | RLock) -> bool:
    got: bool = lock.acquire(timeout=0)
    if got:
        lock.release()
    return got


@KINDS
@WITH_METHODS
def test_lock_is_sent_to_a_child(method: str, kind: type[Lock | RLock]) -> None:
    context = garrison.get_context(method)
    lock, held, end = kind(), context.Lock(), context.Lock()
    held.acquire()
    end.acquire()
    child = context.Process(target=hold_until_told, args=(lock, held, end))
    child.start()
    assert held.acquire()
    assert not lock.acquire(timeout=0.01)
    assert "SomeOtherProcess" in repr(lock)
    end.release()
    assert lock.acquire()
    child.join()
    assert child.exitcode == 0
    child.close()


@WITH_METHODS
def test_lock_is_sent_to_tasks_of_a_pool(method: str) -> None:
    early = Lock()
    with garrison.get_context(method).Pool(2) as pool:
        late = RLock()  # made after the workers were
        for lock in (early, late):
            with lock:
                assert pool.map(is_free, [lock] * 4) == [False] * 4
            assert pool.map(is_free, [lock] * 4).count(True) > 0
        assert isinstance(pool.apply(Lock), Lock)


STRANGER = """
import pickle, sys
lock = pickle.load(sys.stdin.buffer)
with lock:
    print("held", flush=True)
    sys.stdin.read(1)
"""


@contextlib.contextmanager
def stranger(program: str = STRANGER, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user that has nothing from us but what it reads."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


@KINDS
def test_lock_is_sent_to_an_unrelated_process(kind: type[Lock | RLock]) -> None:
    lock = kind(on_abandon="raise")
    with stranger() as process:
        there, back = pipes(process)
        there.write(dumps(lock))
        there.flush()
        assert back.readline() == b"held\n"
        assert not is_free(lock)
        process.send_signal(signal.SIGSTOP)
        assert not lock.acquire(timeout=0.25), "a stopped process keeps what it has"
        process.kill()
        with pytest.raises(OwnerDied, match=str(process.pid)):
            lock.acquire()


@KINDS
def test_sent_lock_is_the_same_lock(kind: type[Lock | RLock]) -> None:
    lock = kind(on_abandon="ignore")
    other = pickle.loads(dumps(lock))
    with lock:
        assert type(other) is kind
        assert other.locked()
        with Forked(is_free, other) as child:
            assert child.answer() == "False"


def test_handle_of_a_dead_sender_is_stale() -> None:
    with Forked(lambda: dumps(Lock())) as child:
        handle = literal_eval(child.answer())
        with pytest.raises(SharedMemoryGone, match=f"process {child.pid}, .* is gone"):
            pickle.loads(handle)


def test_handle_of_another_machine_is_refused() -> None:
    def make() -> bytes:
        return dumps(Lock()).replace(_os.boot_id().encode(), b"x" * len(_os.boot_id()))

    with Forked(make) as child:
        handle = literal_eval(child.answer())
    with pytest.raises(SharedMemoryGone, match="another machine"):
        pickle.loads(handle)


def test_handle_with_a_reused_descriptor_is_refused() -> None:
    end = Lock()
    end.acquire()
    read, write = os.pipe()

    def send_and_forget() -> None:
        lock = Lock()
        handle, number = dumps(lock), lock._location[0].chunk[2]
        there, here = socket.socketpair()
        os.dup2(there.fileno(), number)
        os.write(write, handle)
        end.acquire()
        here.close()

    with Forked(send_and_forget) as child:
        handle = os.read(read, 4096)
        with pytest.raises(SharedMemoryGone, match=f"process {child.pid}"):
            pickle.loads(handle)
        end.release()
        child.join()
    os.close(read)
    os.close(write)


FOREIGN = """
import os, pickle, sys
from garrison.errors import SharedMemoryGone
from garrison.sync import Lock
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    pickle.load(sys.stdin.buffer)
except SharedMemoryGone as error:
    print(error, flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_lock_handle_is_refused_to_another_user() -> None:
    lock = Lock()
    with stranger(FOREIGN) as process:
        there, back = pipes(process)
        there.write(dumps(lock))
        there.flush()
        assert b"belongs to another user" in back.readline()
    lock._location[0].forget_exports()  # this one will never arrive


@WITH_METHODS
def test_bound_method_of_a_lock_is_sent(method: str) -> None:
    context = garrison.get_context(method)
    lock, event, condition = context.Lock(), context.Event(), context.Condition()
    semaphores = [context.Semaphore(2), context.BoundedSemaphore(2)]
    with context.Pool(1) as pool:
        assert pool.apply(lock.acquire)
        assert not lock.acquire(timeout=0)
        pool.apply(lock.release)
        assert lock.acquire(timeout=0)
        pool.apply(event.set)
        assert pool.apply(event.wait)
        for semaphore in semaphores:
            assert pool.apply(semaphore.acquire)
            assert semaphore.get_value() == pool.apply(semaphore.get_value) == 1
        assert pool.apply(condition.acquire)
        with pytest.raises(AssertionError):
            condition.notify()
        pool.apply(condition.notify_all)
        pool.apply(condition.release)
        assert condition.acquire(timeout=0)


@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore])
def test_holder_of_a_lock_whose_method_was_sent_is_known(kind: Any) -> None:
    made = kind()
    acquire = pickle.loads(bytes(dumps(made.acquire)))
    del made
    assert acquire()
    assert kind.__name__ in {each.kind for each in holders() if each.pid == os.getpid()}
