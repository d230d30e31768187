"""A program that PyInstaller has packed into one file, with ``freeze_support()``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PyInstaller")

PROGRAM = """
import sys
import garrison as multiprocessing

STATE = None


def initialize(value):
    global STATE
    STATE = value


def work(n):
    return n * STATE


class Item:
    def __init__(self, n):
        self.n = n


def unpack(item):
    return item.n, type(item) is Item, multiprocessing.get_start_method(), sys.frozen


def put(queue):
    queue.put(multiprocessing.current_process().name)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    for method in ("fork", "spawn", "forkserver"):
        multiprocessing.set_start_method(method, force=True)
        with multiprocessing.Pool(2, initialize, (10,)) as pool:
            print(pool.map(work, range(3)), pool.apply(unpack, (Item(1),)))
            print(pool.apply(lambda n: n + 1, (1,)))
        queue = multiprocessing.Queue()
        process = multiprocessing.Process(target=put, args=(queue,), name=method)
        process.start()
        print(queue.get())
        process.join()
    with multiprocessing.Manager() as manager:
        print(manager.dict(a=1))
"""
WANTED = "".join(
    f"[0, 10, 20] (1, True, '{method}', True)\n2\n{method}\n"
    for method in ("fork", "spawn", "forkserver")
)


@pytest.mark.watchdog(600)
def test_one_file(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    build = [sys.executable, "-m", "PyInstaller", "--onefile", "--log-level", "ERROR", str(script)]
    # Its cache belongs to the user, whom a test is no business of.
    environment = {**os.environ, "PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache")}
    built = subprocess.run(
        build, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        [tmp_path / "dist" / "program"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout == WANTED + "{'a': 1}\n", done.stderr
    assert done.returncode == 0
