"""A small storm over a cluster's two levels; `make storm` is the large one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SECONDS = 100.0


@pytest.mark.watchdog(SECONDS + 10)
def test_a_pool_over_nodes_loses_no_task_in_a_storm() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "storms.cluster", "--kills", "40", "--seed", "1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=TESTS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
