"""A program that gevent has patched before anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import needs, run

pytestmark = needs("gevent")

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import gevent
import garrison as multiprocessing

def square(n):
    return n * n

def put(queue):
    queue.put("child")

if __name__ == "__main__":
    multiprocessing.set_start_method("METHOD")
    with multiprocessing.Pool(2) as pool:
        print(pool.map(square, range(10)))
        print(sorted(pool.imap_unordered(square, range(5))))
        jobs = [gevent.spawn(pool.apply, square, (n,)) for n in range(3)]
        gevent.joinall(jobs, timeout=20)
        print([job.value for job in jobs])
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=put, args=(queue,))
    process.start()
    print(queue.get(timeout=20))
    process.join()
"""


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_patched_program(tmp_path: Path, method: str) -> None:
    expected = "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n[0, 1, 4, 9, 16]\n[0, 1, 4]\nchild\n"
    assert run(tmp_path, PROGRAM.replace("METHOD", method)) == expected
