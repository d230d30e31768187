"""A small storm under each start method; `make storm` is the large one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STORM = Path(__file__).with_name("storm.py")
SECONDS = 100.0


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize(("method", "kills"), [("fork", 60), ("spawn", 20), ("forkserver", 20)])
def test_nothing_is_lost_in_a_storm(method: str, kills: int) -> None:
    arguments = ["--kills", str(kills), "--seed", "1", "--start-method", method]
    done = subprocess.run(
        [sys.executable, str(STORM), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
