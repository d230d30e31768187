"""A suite whose tests use garrison, run by pytest-xdist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .running import needs

pytestmark = needs("xdist")

SUITE = """
import garrison as multiprocessing
import pytest

def square(n):
    return n * n

def put(queue):
    queue.put(multiprocessing.current_process().name)

@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(square, range(10)) == [n * n for n in range(10)]
        assert sorted(pool.imap_unordered(square, range(50))) == [n * n for n in range(50)]

@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_and_queue(method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=put, args=(queue,), name="me")
    process.start()
    assert queue.get(timeout=20) == "me"
    process.join()
    assert process.exitcode == 0

def test_manager():
    with multiprocessing.Manager() as manager:
        shared = manager.dict(a=1)
        with multiprocessing.Pool(2) as pool:
            pool.starmap(shared.__setitem__, [(n, n) for n in range(4)])
        assert len(shared) == 5
"""


@pytest.mark.watchdog(180)
def test_a_suite_in_two_processes(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout
