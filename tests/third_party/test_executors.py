"""`concurrent.futures` with our contexts and our primitives."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import run

PROGRAM = """
import garrison as multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed, wait

def prepare(given):
    global lock
    lock = given

def square(n):
    with lock:
        return n * n

def fail(n):
    raise LookupError(n)

if __name__ == "__main__":
    context = multiprocessing.get_context("METHOD")
    with ProcessPoolExecutor(2, context, prepare, (context.Lock(),)) as executor:
        print(list(executor.map(square, range(6), chunksize=2)))
        futures = [executor.submit(square, n) for n in range(20)]
        print(sum(future.result() for future in as_completed(futures)))
        print(repr(executor.submit(fail, 3).exception()))
    with ProcessPoolExecutor(2, context) as executor, multiprocessing.Manager() as manager:
        shared = manager.dict()
        wait([executor.submit(shared.__setitem__, n, n) for n in range(4)])
        print(dict(shared) == {0: 0, 1: 1, 2: 2, 3: 3})
"""


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_executor_with_our_context(tmp_path: Path, method: str) -> None:
    expected = "[0, 1, 4, 9, 16, 25]\n2470\nLookupError(3)\nTrue\n"
    assert run(tmp_path, PROGRAM.replace("METHOD", method)) == expected
