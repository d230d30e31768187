"""Programs written for multiprocessing run with garrison, and so do their children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ("fork", "spawn", "forkserver")
LINE = "import sys, garrison; sys.modules['multiprocessing'] = garrison\n"
PROGRAM = """
import multiprocessing as mp
import multiprocessing.pool
import multiprocessing.connection, multiprocessing.util
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Process, shared_memory
from multiprocessing.context import BaseContext
from multiprocessing.managers import BaseManager, SyncManager
from multiprocessing.pool import ThreadPool
from multiprocessing.queues import Queue


def kinds():
    import multiprocessing.queues

    found = [mp.Pool, mp.pool.Pool, ThreadPool, Queue, multiprocessing.queues.Queue, BaseContext]
    found += [shared_memory.SharedMemory, BaseManager, SyncManager, type(mp.Lock())]
    return [each for each in found if not each.__module__.startswith("garrison.")], sys.argv[2:]


def put(queue):
    queue.put(kinds())


def square(x):
    return x * x


def main():
    print(kinds())
    context = mp.get_context(sys.argv[1])
    with context.Pool(1) as pool:
        print(pool.apply(kinds))
    queue = context.Queue()
    process = context.Process(target=put, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        print(executor.submit(kinds).result())
    with ThreadPool(2) as pool:
        print(pool.map(square, [1, 2]))


if __name__ == "__main__":
    main()
"""
WANTED = "([], ['a', '-m'])\n" * 4 + "[1, 4]\n"


def run(*command: str, folder: Path, text: str | None = None) -> tuple[str, str, int]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        input=text,
        check=False,
        env=environment,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize("method", METHODS)
def test_one_line_puts_garrison_in_the_place_of_multiprocessing(
    tmp_path: Path, method: str
) -> None:
    Path(tmp_path, "program.py").write_text(LINE + PROGRAM)
    out, err, status = run("program.py", method, "a", "-m", folder=tmp_path)
    assert (out, status) == (WANTED, 0), err


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("named", [("program.py",), ("-m", "program")], ids=["script", "module"])
def test_a_program_is_run_with_garrison(
    tmp_path: Path, method: str, named: tuple[str, ...]
) -> None:
    Path(tmp_path, "program.py").write_text(PROGRAM)
    out, err, status = run("-m", "garrison", *named, method, "a", "-m", folder=tmp_path)
    assert (out, status) == (WANTED, 0), err


LOOKS = """
import os, sys
print(sys.argv, sys.path[0], __name__, globals().get("__file__"), getattr(__spec__, "name", None))
print(sys.modules["__main__"].__dict__ is globals(), sys.modules["__mp_main__"].__name__)
"""


@pytest.mark.parametrize(
    "named",
    [
        ("folder/looks.py",),
        ("link.py",),
        ("folder",),
        ("-m", "folder.looks"),
        ("-c", LOOKS),
        ("-",),
    ],
    ids=["script", "link", "folder", "module", "code", "input"],
)
def test_program_has_the_environment_of_python(tmp_path: Path, named: tuple[str, ...]) -> None:
    Path(tmp_path, "folder").mkdir()
    for name in ("looks.py", "__main__.py"):
        Path(tmp_path, "folder", name).write_text("import multiprocessing\n" + LOOKS)
    Path(tmp_path, "link.py").symlink_to("folder/looks.py")
    code = "import multiprocessing\n" + LOOKS
    named = tuple(code if each is LOOKS else each for each in named)
    text = code if named == ("-",) else None
    wanted = run(*named, "a", "--b", folder=tmp_path, text=text)
    assert wanted[2] == 0
    assert run("-m", "garrison", *named, "a", "--b", folder=tmp_path, text=text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "raise SystemExit(3)",
        "raise SystemExit('a message')",
        "def f(): raise KeyError(1)\nf()",
        "raise KeyboardInterrupt",
        "x =",
        "import sys; sys.exit()",
    ],
)
def test_program_ends_as_under_python(tmp_path: Path, text: str) -> None:
    Path(tmp_path, "ends.py").write_text(text)
    wanted = run("ends.py", folder=tmp_path)
    assert run("-m", "garrison", "ends.py", folder=tmp_path) == wanted
    assert wanted[2] in {0, 1, 3, -signal.SIGINT, 128 + signal.SIGINT}


def test_missing_program_is_an_error(tmp_path: Path) -> None:
    for named in (("none.py",), ("-c",), ("-m",)):
        out, err, status = run("-m", "garrison", *named, folder=tmp_path)
        assert (out, status) == ("", 2)
        assert err.startswith("garrison: ")
    assert run("-m", "garrison", "-m", "none_of_that_name", folder=tmp_path)[2] == 1
    out, err, status = run("-m", "garrison", "ftech", folder=tmp_path)
    assert (out, status) == ("", 2)
    assert "fetch" in err
    assert run("-m", "garrison", "--version", folder=tmp_path)[2] == 0


def test_a_module_that_was_loaded_before_is_replaced_too(tmp_path: Path) -> None:
    code = "import multiprocessing.queues, garrison._standard as s; s.install()\n"
    code += "import multiprocessing.queues as q, multiprocessing.util as u, garrison\n"
    code += "print(q is garrison.queues, u is garrison.util, u.__name__)"
    out, err, _ = run("-c", code, folder=tmp_path)
    assert out == "True True multiprocessing.util\n", err
