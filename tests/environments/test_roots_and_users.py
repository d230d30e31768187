"""Workers in a ``chroot`` or of another user, and programs without ``/proc``."""

from __future__ import annotations

from pathlib import Path

import pytest

from .mounts import AS_ROOT, can_enter, room
from .program import METHODS, run

WORK = """
import tempfile, traceback
import numpy as np
from garrison.memory import share

class Wrong(Exception): pass
def boom(x): raise Wrong(f"no {x}")
def double(a): return a.sum(), a * 2
def total(shared): return int(shared.get()["x"].sum())
def use(d, l, q, lock, event):
    with lock:
        d["k"] = d["a"] + 1
    l.append(5)
    q.put((1, "x"))
    event.set()
    return sorted(d.items())
def made(_): return share({"x": np.arange(50_000)})
def native(lock, value, queue):
    with lock:
        value.value += 1
    queue.put(bytes(100_000))
lock = value = queue = None

def all_kinds(ctx, pool, man):
    print(pool.map(abs, [-1, -2]), pool.map(lambda x: x + 1, [1]))
    try:
        pool.apply(boom, (3,))
    except Wrong as error:
        print(error, "in boom" in "".join(traceback.format_exception(error)))
    s, t = pool.apply(double, (np.arange(100_000),))
    print(s, t.sum())
    print(pool.apply(total, (share({"x": np.arange(50_000)}),)))
    print(pool.apply(total, (pool.apply(made, (0,)),)))
    d, l, q = man.dict(a=1), man.list([1]), man.Queue()
    event = man.Event()
    print(pool.apply(use, (d, l, q, man.Lock(), event)), event.is_set())
    print(dict(d), list(l), q.get(timeout=10))
    print(pool.apply(native, (lock, value, queue)), value.value, len(queue.get(timeout=10)))
"""
ANSWER = """[1, 2] [2]
no 3 True
4999950000 9999900000
1249975000
1249975000
[('a', 1), ('k', 2)] True
{'a': 1, 'k': 2} [1, 5] (1, 'x')
None 2 100000
"""
PROGRAM = """
def init(how, root, *inherited):
    if how in ("chroot", "both"):
        os.chroot(root); os.chdir("/")
    if how in ("setuid", "both"):
        os.setgroups([]); os.setgid(65534); os.setuid(65534)

if __name__ == "__main__":
    how, method = sys.argv[1:]
    ctx = mp.get_context(method)
    lock, value, queue = ctx.Lock(), ctx.Value("i", 1), ctx.Queue()
    with ctx.Manager() as man, ctx.Pool(2, init, (how, os.getcwd() + "/root")) as pool:
        all_kinds(ctx, pool, man)
"""


@AS_ROOT
@pytest.mark.parametrize("how", ["chroot", "setuid", "both"])
@pytest.mark.parametrize("method", METHODS)
def test_workers_of_another_root_or_user_receive_shared_memory(
    how: str, method: str, tmp_path: Path
) -> None:
    Path(tmp_path, "root").mkdir()
    assert run(tmp_path, PROGRAM, how, method, head=WORK) == ANSWER


@AS_ROOT
def test_pool_works_after_the_program_drops_its_privileges(tmp_path: Path) -> None:
    source = """
    if __name__ == "__main__":
        import logging, platform, uuid, cloudpickle, garrison.managers, garrison.sharedctypes
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        ctx = mp.get_context("fork")
        lock, value, queue = ctx.Lock(), ctx.Value("i", 1), ctx.Queue()
        with ctx.Manager() as man, ctx.Pool(2) as pool:
            all_kinds(ctx, pool, man)
    """
    assert run(tmp_path, source, head=WORK) == ANSWER


NO_PROC = room(("/proc", "tmpfs", 0, "size=64k"))
HIDDEN = room(("/proc", "proc", 0, "hidepid=2"))


@AS_ROOT
@pytest.mark.parametrize("enter", [NO_PROC, HIDDEN], ids=["no-proc", "hidepid"])
@pytest.mark.parametrize("method", METHODS)
def test_program_works_without_proc(enter: object, method: str, tmp_path: Path) -> None:
    assert callable(enter)
    if not can_enter(enter):
        pytest.skip("this machine does not allow such a mount")
    answer = run(tmp_path, PROGRAM, "plain", method, head=WORK, before=enter)
    assert answer == ANSWER


@AS_ROOT
@pytest.mark.parametrize("method", METHODS)
def test_deaths_are_noticed_without_proc(method: str, tmp_path: Path) -> None:
    if not can_enter(NO_PROC):
        pytest.skip("this machine does not allow such a mount")
    source = """
    def die(lock):
        lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        from garrison.sync import Lock
        lock = Lock(on_abandon="ignore")
        process = ctx.Process(target=die, args=(lock,))
        process.start(); process.join()
        print(lock.acquire(timeout=10), lock.abandoned)
        with ctx.Pool(1) as pool:
            try:
                pool.apply(os.kill, (pool.apply(os.getpid), signal.SIGKILL))
            except mp.WorkerDied as error:
                print(error.signal)
            print(pool.apply(abs, (-1,)))
            os.kill(pool.apply(os.getppid), signal.SIGKILL)
            print(pool.options(retries=9).apply(abs, (-2,)))
    """
    answer = run(tmp_path, source, method, before=NO_PROC)
    assert answer.split() == ["True", "True", "9", "1", "2"]


def test_nothing_is_imported_after_an_initializer_has_run(tmp_path: Path) -> None:
    source = """
    def init():
        global known
        known = set(sys.modules)

    def late(_):
        return sorted(set(sys.modules) - known)

    if __name__ == "__main__":
        ctx = mp.get_context("spawn")
        lock, value, queue = ctx.Lock(), ctx.Value("i", 1), ctx.Queue()
        with ctx.Manager() as man, ctx.Pool(1, init) as pool:
            all_kinds(ctx, pool, man)
            print(pool.apply(late, (0,)))
    """
    assert run(tmp_path, source, head=WORK) == f"{ANSWER}[]\n"
