"""Old kernels and sandboxes: refused system calls are replaced."""

from __future__ import annotations

import errno
import functools
from pathlib import Path

import pytest

from failures.seccomp import NUMBERS, refuse
from failures.subject import Missing

from .program import METHODS, run

SOURCE = """
from garrison.sync import Lock

def die(lock):
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)

def put(queue):
    queue.put([1] * 50_000)
    queue.put(bytes(1 << 20))

if __name__ == "__main__":
    ctx = mp.get_context(sys.argv[1])
    with ctx.Pool() as pool:
        print(pool.map(abs, range(-3, 0)), len(pool.apply(bytes, (1 << 20,))))
    with ctx.Pool(1) as pool:
        try:
            pool.apply(os.kill, (pool.apply(os.getpid), signal.SIGKILL))
        except mp.WorkerDied as error:
            print("died", error.signal)
        try:
            pool.options(timeout=0.2).apply(time.sleep, (60,))
        except mp.TaskTimeout:
            print("late")
        os.kill(pool.apply(os.getppid), signal.SIGKILL)
        print(pool.options(retries=9).apply(abs, (-4,)))
        pool.close(); pool.join()
    lock = Lock(on_abandon="ignore")
    process = ctx.Process(target=die, args=(lock,))
    process.start(); process.join()
    print(lock.acquire(timeout=10), lock.abandoned)
    queue = ctx.Queue()
    process = ctx.Process(target=put, args=(queue,))
    process.start()
    print(sum(queue.get()), len(queue.get()))
    process.join()
    with ctx.Manager() as manager:
        d = manager.dict(a=1)
        d["b"] = bytes(100_000)
        print(len(d), manager.Queue().qsize())
    condition = ctx.Condition()
    with condition:
        print(condition.wait(0.05))
    from garrison.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=10_000)
    SharedMemory(memory.name).close()
    memory.close(); memory.unlink()
"""
ANSWER = """[3, 2, 1] 1048576
died 9
late
4
True True
50000 1048576
2 0
False
"""
ERRORS = {"ENOSYS": errno.ENOSYS, "EPERM": errno.EPERM}
CALLS = sorted(set(NUMBERS) - {"prctl", "waitid", "clone3", "fcntl"})


def ask(tmp_path: Path, method: str, names: list[str], error: int) -> str:
    def refused() -> None:
        for name in names:
            refuse(name, error)

    try:
        return run(tmp_path, SOURCE, method, before=refused)
    except Missing as missing:
        pytest.skip(f"needs {missing}")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", CALLS)
def test_program_works_without_a_system_call(name: str, error: str, tmp_path: Path) -> None:
    assert ask(tmp_path, "fork", [name], ERRORS[error]) == ANSWER


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.watchdog(60)
def test_program_works_without_all_optional_system_calls(
    method: str, error: str, tmp_path: Path
) -> None:
    assert ask(tmp_path, method, CALLS, ERRORS[error]) == ANSWER


LOCKS_OF_DESCRIPTIONS = (36, 37, 38)


@pytest.mark.parametrize("method", METHODS)
def test_program_works_without_locks_of_open_file_descriptions(method: str, tmp_path: Path) -> None:
    refused = functools.partial(refuse, "fcntl", errno.EINVAL, LOCKS_OF_DESCRIPTIONS)
    assert run(tmp_path, SOURCE, method, before=refused) == ANSWER


def test_directory_without_locks_of_open_file_descriptions_is_served(tmp_path: Path) -> None:
    source = """
    from garrison.managers import SyncManager
    if __name__ == "__main__":
        for n in range(2):
            with SyncManager(path="store") as manager:
                d = manager.dict("d")
                d[n] = n
                child = mp.get_context("fork").Process(target=d.update, args=({"child": n},))
                child.start(); child.join()
                print(sorted(dict(d).values()))
    """
    refused = functools.partial(refuse, "fcntl", errno.EINVAL, LOCKS_OF_DESCRIPTIONS)
    answer = run(tmp_path, source, before=refused)
    assert answer.splitlines() == ["[0, 0]", "[0, 1, 1]"]
