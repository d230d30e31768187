"""Several processes and threads at one store, and what a fork leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from garrison import _core
from garrison.errors import StoreBusy
from sync.forked import Forked

from .tools import DICT, LIST, MEBIBYTE, QUEUE, WORDS, open_store

Store = _core.Store
ROUNDS = 3000


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def in_child(task: Callable[[], object]) -> str:
    with Forked(task) as child:
        return child.answer()


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("in_memory", [True, False])
def test_nothing_is_lost_between_processes(processes: int, in_memory: bool, tmp_path: Path) -> None:
    with open_store(folder=None if in_memory else tmp_path) as store:
        d, a = store.create(DICT), store.create(LIST)
        store.dict_set(d, "n", 0)

        def work(number: int) -> None:
            for turn in range(ROUNDS):
                store.dict_add(d, "n", 1)
                store.dict_add(d, number, 1, 0)
                if turn % 10 == 0:
                    store.begin()
                    store.list_append(a, store.dict_get(d, "n"))
                    store.dict_add(d, "n", 1)
                    store.commit()

        children = [Forked(work, number) for number in range(processes)]
        assert [child.join() for child in children] == [0] * processes
        for child in children:
            child.__exit__(None, None, None)
        each = ROUNDS + ROUNDS // 10
        expected: dict[object, int] = dict.fromkeys(range(processes), ROUNDS)
        expected["n"] = processes * each
        assert store.snapshot(d) == expected
        seen = store.snapshot(a)
        assert len(seen) == processes * ROUNDS // 10
        assert seen == sorted(set(seen))
        assert store.audit() == []


def test_nothing_is_lost_between_threads(store: Store) -> None:
    d = store.create(DICT)
    store.dict_set(d, "n", 0)

    def work() -> None:
        for turn in range(300):
            store.dict_add(d, "n", 1)
            if turn % 3 == 0:
                store.begin()
                store.dict_set(d, "n", store.dict_get(d, "n") + 1)
                store.commit()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.dict_get(d, "n") == 4 * 400


def test_readers_see_whole_transactions(store: Store) -> None:
    d = store.create(DICT)
    store.dict_update(d, [("a", 0), ("b", 0)])

    def write() -> None:
        for n in range(3000):
            store.begin()
            store.dict_set(d, "a", n)
            store.dict_set(d, "b", -n)
            store.commit()

    with Forked(write) as child:
        while not child.is_over():
            found = dict(store.scan(d, "items"))
            assert found["a"] == -found["b"]
        assert child.join() == 0


def test_items_are_claimed_once(store: Store) -> None:
    q, done = store.create(QUEUE), store.create(LIST)
    store.list_extend(q, list(range(2000)))

    def work(owner: int) -> None:
        view = store.session(owner, encoded=False, blocking=True)
        while True:
            try:
                ticket, value = view.claim_first(q)
            except IndexError:
                return
            view.list_append(done, value)
            assert view.ack_claim(q, ticket)

    children = [Forked(work, owner) for owner in (11, 12, 13)]
    assert [child.join() for child in children] == [0] * 3
    for child in children:
        child.__exit__(None, None, None)
    assert sorted(store.snapshot(done)) == list(range(2000))
    assert store.audit() == []


def test_a_child_opens_the_store_for_itself(store: Store) -> None:
    d = store.create(DICT)
    store.list_extend(a := store.create(LIST), list(range(1000)))
    walk = store.scan(a)

    def child() -> tuple[object, ...]:
        with WORDS.lock:  # for which each process opens a file
            before = open_files()
        store.dict_set(d, "child", os.getpid())
        grandchild = in_child(lambda: store.dict_set(d, "grandchild", 1))
        with pytest.raises(RuntimeError, match="fork"):
            walk.next(500)
        walk.close()
        found = len(store.snapshot(d)), open_files() - before, grandchild
        store.close()
        return found

    assert in_child(child) == "(2, 0, 'None')"
    assert walk.next(1000) == list(range(1000))
    assert store.length(d) == 2


def test_a_transaction_is_not_inherited(store: Store) -> None:
    d = store.create(DICT)
    store.begin()
    store.dict_set(d, "parent", 1)

    def child() -> object:
        state = store.in_transaction, store.snapshot(d)
        with pytest.raises(RuntimeError, match="no transaction"):
            store.commit()
        with pytest.raises(StoreBusy):
            store.begin(0.05)
        return state

    assert in_child(child) == "(False, {})"
    store.dict_set(d, "more", 1)
    store.commit()
    assert store.snapshot(d) == {"parent": 1, "more": 1}

    def writer() -> None:
        store.dict_set(d, "child", 1)

    store.begin()
    with Forked(writer) as waiting:
        store.dict_set(d, "late", 1)
        assert not waiting.is_over()
        store.commit()
        assert waiting.join() == 0
    assert list(store.scan(d)) == ["parent", "more", "late", "child"]


def test_forked_child_may_drop_the_store(store: Store) -> None:
    global_walk = store.scan(store.create(LIST))
    d = store.create(DICT)
    store.dict_set(d, 1, 1)

    def child() -> None:
        nonlocal store, global_walk
        del store, global_walk

    assert in_child(child) == "None"
    store.dict_set(d, 2, 2)
    assert store.audit() == []


def test_a_fork_in_another_threads_transaction(store: Store) -> None:
    d = store.create(DICT)
    begun, over = threading.Event(), threading.Event()

    def transaction() -> None:
        store.begin()
        store.dict_set(d, "thread", 1)
        begun.set()
        over.wait()
        store.commit()

    thread = threading.Thread(target=transaction)
    thread.start()
    begun.wait()
    with pytest.raises(RuntimeError, match="another thread"):
        store.close()
    try:
        with Forked(lambda: store.dict_set(d, "child", 1)) as child:
            over.set()
            assert child.join() == 0
    finally:
        over.set()
        thread.join()
    assert store.snapshot(d) == {"thread": 1, "child": 1}


def test_dead_readers_do_not_keep_pages(tmp_path: Path) -> None:
    with open_store(MEBIBYTE * 32) as store:
        a = store.create(LIST)
        store.list_extend(a, list(range(1000)))

        def read() -> None:
            walk = store.scan(a)
            next(walk)
            os.kill(os.getpid(), 9)

        for _ in range(3):
            with Forked(read) as child:
                assert child.join() == -9
        d = store.create(DICT)
        for n in range(20_000):
            store.dict_set(d, n % 100, n)
        assert store.statistics()["bytes_used"] < 8 * MEBIBYTE


def close_files_in(folder: Path) -> None:
    """Close what this process has open there, as a program does that becomes a daemon."""
    opened = {fd: Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    for fd, link in opened.items():
        if link.is_symlink() and link.readlink().parent == folder:
            os.close(int(fd))


def test_a_walk_is_over_when_the_store_has_lost_its_descriptors(tmp_path: Path) -> None:
    """It was the last to have the environment, and looked into that when it was freed."""

    def work() -> tuple[str, int]:
        with open_store(folder=tmp_path) as store:
            d = store.create(DICT)
            for n in range(1000):
                store.dict_set(d, n, n)
            walk = iter(store.scan(d))
            assert next(walk) == 0
            close_files_in(tmp_path)
            store.dict_set(d, "new", 1)
            with pytest.raises(ValueError, match="this walk is over") as error:
                list(walk)
            del walk
            return str(error.value), store.length(d)

    answer = in_child(work)
    assert answer.endswith(", 1001)"), answer


IN_A_TRANSACTION = """
import ctypes, os, subprocess, sys
from pathlib import Path
from garrison.store import Kind
from garrison.store._local_store import open_directory

folder = sys.argv[1]
store = open_directory(folder, sync=False)
shared = store.make(Kind.DICT, {"a": 1}, name="shared")
with store.backend.transaction():
    shared["b"] = 2
    for path in Path(folder).iterdir():
        path.read_bytes()  # as for a copy; closing the file ends LMDB's locks on it
    subprocess.run([sys.executable, "-c", sys.argv[2], folder], check=True)
print(dict(shared))
del shared, store

# The C library's list of the mutexes that this thread has locked: it ends where it begins.
head, size = ctypes.c_void_p(), ctypes.c_size_t()
get_robust_list = {"x86_64": 274, "aarch64": 100}[os.uname().machine]
ctypes.CDLL(None).syscall(get_robust_list, 0, ctypes.byref(head), ctypes.byref(size))
print(ctypes.c_void_p.from_address(head.value).value == head.value)
"""
OPENS_IT_TOO = """
import sys
from garrison.store import Kind
from garrison.store._local_store import open_directory

print(dict(open_directory(sys.argv[1], sync=False).make(Kind.DICT, name="shared")))
"""


def test_a_mutex_is_not_made_anew_while_it_is_locked(tmp_path: Path) -> None:
    """LMDB finds itself alone, and would; the thread then crashed at another mutex, some time."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_TRANSACTION, str(tmp_path), OPENS_IT_TOO],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["{'a': 1}", "{'a': 1, 'b': 2}", "True"]


def test_waiter_is_woken_by_another_process(store: Store) -> None:
    a = store.create(LIST)

    def echo() -> None:
        for n in range(200):
            while store.length(a) <= 2 * n:
                seen = store.change_count(a)
                if store.length(a) <= 2 * n:
                    store.wait_for_change(a, seen, 10)
            store.list_append(a, "pong")

    with Forked(echo) as child:
        for n in range(200):
            seen = store.change_count(a)
            store.list_append(a, "ping")
            while store.length(a) < 2 * n + 2:
                seen = store.change_count(a)
                if store.length(a) < 2 * n + 2:
                    assert store.wait_for_change(a, seen, 10)
        assert child.join() == 0
    assert store.snapshot(a) == ["ping", "pong"] * 200
