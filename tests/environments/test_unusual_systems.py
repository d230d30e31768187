"""Read-only and missing folders, other flags of the interpreter, PID 1, a user namespace."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .mounts import AS_ROOT, READ_ONLY, can_enter, room
from .program import METHODS, run

SOURCE = """
def put(queue, lock, value):
    with lock:
        value.value += 1
    queue.put(bytes(100_000))

def double(x):
    return x * 2

if __name__ == "__main__":
    ctx = mp.get_context(sys.argv[1])
    with ctx.Pool(2) as pool:
        print(pool.map(double, range(3)), pool.apply(len, (bytes(1 << 20),)))
    queue, lock, value = ctx.Queue(), ctx.Lock(), ctx.Value("i", 1)
    process = ctx.Process(target=put, args=(queue, lock, value))
    process.start()
    print(len(queue.get(timeout=20)))
    process.join()
    with ctx.Manager() as manager:
        d, l = manager.dict(a=1), manager.list([d for d in range(3)])
        with ctx.Pool(1) as pool:
            print(pool.apply(d.get, ("a",)), pool.apply(sum, (l,)))
    print(value.value, process.exitcode)
"""
ANSWER = "[0, 2, 4] 1048576\n100000\n1 3\n2 0\n"
EVERYWHERE = pytest.mark.parametrize("method", METHODS)
READ_ONLY_MEMORY = room(("/dev/shm", "tmpfs", READ_ONLY, ""))


@AS_ROOT
@EVERYWHERE
def test_program_works_with_a_read_only_dev_shm(method: str, tmp_path: Path) -> None:
    if not can_enter(READ_ONLY_MEMORY):
        pytest.skip("this machine does not allow such a mount")
    assert run(tmp_path, SOURCE, method, before=READ_ONLY_MEMORY) == ANSWER


@EVERYWHERE
def test_program_works_without_a_temporary_directory_and_home(method: str, tmp_path: Path) -> None:
    environment = {"TMPDIR": "/nowhere", "HOME": "", "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(tmp_path, SOURCE, method, environment=environment) == ANSWER


@pytest.mark.parametrize(
    "flags", [("-I",), ("-E",), ("-S",), ("-O",), ("-X", "utf8"), ("-B", "-s")]
)
@EVERYWHERE
def test_program_works_with_flags_of_the_interpreter(
    flags: tuple[str, ...], method: str, tmp_path: Path
) -> None:
    head = ""
    if "-S" in flags:
        # Without `site` nothing is found that is installed; a program says where it is.
        paths = [path for path in sys.path if path]
        head = f"import sys; sys.path[:] = {paths!r}\n"
    assert run(tmp_path, SOURCE, method, before_all=head, flags=flags) == ANSWER


NEW_PIDS, NEW_USERS = 0x20000000, 0x10000000


def in_namespace(kinds: int) -> Callable[[], None]:
    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(kinds):
            raise OSError(ctypes.get_errno(), "unshare")

    return enter


@EVERYWHERE
def test_program_works_in_an_unmapped_user_namespace(method: str, tmp_path: Path) -> None:
    enter = in_namespace(NEW_USERS)
    if not can_enter(enter):
        pytest.skip("this machine does not allow user namespaces")
    assert run(tmp_path, SOURCE, method, before=enter) == ANSWER


@AS_ROOT
@EVERYWHERE
def test_program_works_as_pid_1(method: str, tmp_path: Path) -> None:
    """The first process of a namespace has number 1, and /proc shows other numbers."""
    enter = in_namespace(NEW_PIDS)
    if not can_enter(enter):
        pytest.skip("this machine does not allow PID namespaces")

    def be_init() -> None:
        enter()
        pid = os.fork()
        if pid:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    assert run(tmp_path, SOURCE, method, before=be_init) == ANSWER
