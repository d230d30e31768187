"""A small storm under each start method; `make storm` is the large one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SECONDS = 100.0


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize(("method", "kills"), [("fork", 60), ("spawn", 20), ("forkserver", 20)])
def test_pool_loses_no_task_in_a_storm(method: str, kills: int) -> None:
    arguments = ["--kills", str(kills), "--seed", "1", "--start-method", method]
    done = subprocess.run(
        [sys.executable, "-m", "storms.pool", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=TESTS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
