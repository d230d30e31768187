"""dask's schedulers of threads and of processes, with garrison's pools."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import needs, run

pytestmark = needs("dask")

PROGRAM = """
import dask, dask.bag, dask.delayed, os
from KIND import POOL

@dask.delayed
def square(n):
    return n * n

@dask.delayed
def fail(n):
    raise LookupError(n)

def home(_):
    return os.getpid()

if __name__ == "__main__":
    with POOL(2) as pool, dask.config.set(scheduler="SCHEDULER", pool=pool):
        print(dask.delayed(sum)([square(n) for n in range(50)]).compute())
        numbers = dask.bag.from_sequence(range(100), npartitions=7)
        print(numbers.map(lambda n: n + 1).sum().compute())
        pids = set(dask.bag.from_sequence(range(40), npartitions=20).map(home).compute())
        print(os.getpid() in pids)
        try:
            fail(3).compute()
        except LookupError as error:
            # dask adds the worker's traceback to the text.
            print("LookupError", str(error).split()[0])
        print(dask.delayed(sum)([square(n) for n in range(5)]).compute())
"""


@pytest.mark.watchdog(120)
@pytest.mark.parametrize(
    ("scheduler", "kind", "pool", "here"),
    [
        ("threads", "garrison.pool", "ThreadPool", True),
        ("processes", "garrison", "Pool", False),
    ],
)
def test_a_pool_of_ours_runs_a_graph(
    tmp_path: Path, scheduler: str, kind: str, pool: str, here: bool
) -> None:
    program = PROGRAM.replace("SCHEDULER", scheduler).replace("KIND", kind).replace("POOL", pool)
    expected = f"40425\n5050\n{here}\nLookupError 3\n30\n"
    assert run(tmp_path, program) == expected
