"""joblib's multiprocessing backend with garrison in place of multiprocessing."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import needs, run

pytestmark = needs("joblib")

PROGRAM = """
import os
import numpy as np
from joblib import Parallel, delayed, parallel_config

def square(n):
    return n * n

def total(array):
    return float(array.sum())

def inner(n):
    import multiprocessing
    with parallel_config(backend="multiprocessing"):
        pids = Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))
    return set(pids) == {os.getpid()}, multiprocessing.current_process().daemon

def fail(n):
    raise LookupError(n)

if __name__ == "__main__":
    with parallel_config(backend="multiprocessing"):
        print(Parallel(n_jobs=2)(delayed(square)(n) for n in range(10)))
        print(sum(Parallel(n_jobs=2, batch_size=1)(delayed(square)(n) for n in range(500))))
        # Large arrays: joblib's files, or shared memory of the pool's own.
        print(Parallel(n_jobs=2)(delayed(total)(np.ones(1_000_000)) for _ in range(2)))
        print(Parallel(n_jobs=2)(delayed(inner)(n) for n in range(2)))
        try:
            Parallel(n_jobs=2)(delayed(fail)(n) for n in range(10))
        except LookupError as error:
            print("LookupError", error.args[0] in range(10))
"""
EXPECTED = """\
[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
41541750
[1000000.0, 1000000.0]
[(True, True), (True, True)]
LookupError True
"""


@pytest.mark.watchdog(180)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_multiprocessing_backend(tmp_path: Path, method: str) -> None:
    assert run(tmp_path, PROGRAM, in_place=True, JOBLIB_START_METHOD=method) == EXPECTED
