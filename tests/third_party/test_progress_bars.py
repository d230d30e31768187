"""tqdm, p_tqdm and pandarallel: maps that show how far they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import needs, run

TQDM = """
import garrison, tqdm, io
from tqdm.contrib.concurrent import process_map, thread_map

def square(n):
    return n * n

if __name__ == "__main__":
    print(sum(process_map(square, range(100), max_workers=2, chunksize=5, file=io.StringIO())))
    print(sum(thread_map(square, range(100), max_workers=2, file=io.StringIO())))
    shown = io.StringIO()
    with garrison.Pool(2) as pool:
        results = pool.imap_unordered(square, range(100))
        print(sum(tqdm.tqdm(results, total=100, file=shown)))
    print("100/100" in shown.getvalue())
"""


@pytest.mark.watchdog(120)
@needs("tqdm")
def test_tqdm(tmp_path: Path) -> None:
    assert run(tmp_path, TQDM, in_place=True) == "328350\n328350\n328350\nTrue\n"


P_TQDM = """
from p_tqdm import p_imap, p_map, p_uimap

def add(a, b):
    return a + b

if __name__ == "__main__":
    print(p_map(add, [1, 2, 3], [10, 20, 30], num_cpus=2))
    print(p_map(lambda n: n * n, range(5), num_cpus=2))
    print(list(p_imap(add, [1, 2], [3, 4], num_cpus=2)))
    print(sorted(p_uimap(add, [1, 2], [3, 4], num_cpus=2)))
"""


@pytest.mark.watchdog(120)
@needs("p_tqdm")
def test_p_tqdm(tmp_path: Path) -> None:
    expected = "[11, 22, 33]\n[0, 1, 4, 9, 16]\n[4, 6]\n[4, 6]\n"
    assert run(tmp_path, P_TQDM, in_place=True) == expected


PANDARALLEL = """
import pandas as pd
from pandarallel import pandarallel

def double(value):
    return value * 2

if __name__ == "__main__":
    pandarallel.initialize(nb_workers=2, progress_bar=BAR, verbose=0, use_memory_fs=False)
    frame = pd.DataFrame({"a": range(10), "b": range(10, 20), "c": [0, 1] * 5})
    print((frame.a.parallel_map(double) == frame.a * 2).all())
    print((frame.a.parallel_apply(lambda n: n + 1) == frame.a + 1).all())
    print((frame.parallel_apply(lambda row: row.a + row.b, axis=1) == frame.a + frame.b).all())
    print(frame.groupby("c").parallel_apply(lambda group: group.a.sum()).tolist())
"""


@pytest.mark.watchdog(180)
@pytest.mark.parametrize("bar", [False, True])
@needs("pandarallel")
def test_pandarallel(tmp_path: Path, bar: bool) -> None:
    shown = run(tmp_path, PANDARALLEL.replace("BAR", str(bar)), in_place=True)
    # Between them, the bars.
    assert (shown.count("True"), shown.count("[20, 25]")) == (3, 1)
