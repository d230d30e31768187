"""coverage with ``concurrency = multiprocessing`` measures what workers run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("coverage")

PROGRAM = """
import garrison


def initialize(value):
    global state
    state = value


def work(n):
    if n > 1:
        n += 1
    return n + state


class Later:
    def run(self):
        return 3


def run_later(later):
    return later.run()


if __name__ == "__main__":
    with garrison.get_context("METHOD").Pool(2, initialize, (5,)) as pool:
        print(pool.map(work, range(4)))
        print(pool.apply(run_later, (Later(),)))
        pool.close()
        pool.join()
    process = garrison.get_context("METHOD").Process(target=work, args=(2,))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_lines_that_workers_run(method: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.replace("METHOD", method))
    (tmp_path / ".coveragerc").write_text("[run]\nconcurrency = multiprocessing\nparallel = true\n")
    coverage = [sys.executable, "-m", "coverage"]
    for arguments in (["run", "program.py"], ["combine"], ["json", "-q"]):
        done = subprocess.run(
            [*coverage, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "coverage.json").read_text())
    assert report["files"]["program.py"]["missing_lines"] == []
