"""gevent's patches, made before anything else: pools start, work, lose workers and end."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("gevent") is None:
    pytest.skip("gevent is not installed", allow_module_level=True)

PROGRAM = """
from gevent import monkey

monkey.patch_all()

import os, signal, subprocess, time
import gevent
import garrison


def increment(n):
    time.sleep(0.001)
    return n + 1


def ask_another(text):
    return subprocess.run(["echo", text], capture_output=True, text=True).stdout


def in_a_greenlet(n):
    return gevent.spawn(increment, n).get()


if __name__ == "__main__":
    with garrison.get_context("METHOD").Pool(2) as pool:
        print(pool.map(increment, range(4)), list(pool.imap(increment, iter(range(2)))))
        print(pool.apply(ask_another, ("other",)), pool.apply(in_a_greenlet, (1,)))
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        print(pool.map(increment, range(4)))
        pool.close()
        pool.join()
    print(gevent.spawn(increment, 1).get(), garrison.active_children())
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_work_under_gevents_patches(method: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("METHOD", method))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[1, 2, 3, 4] [1, 2]\nother\n 2\n[1, 2, 3, 4]\n2 []\n"
