"""A small storm on a store in a folder and on one in memory; `make storm` has the large ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SECONDS = 200.0


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize(("place", "kills"), [("path", 60), ("memory", 40)])
def test_store_loses_nothing_in_a_storm(place: str, kills: int) -> None:
    arguments = ["--kills", str(kills), "--seed", "1", "--place", place, "--seconds", "50"]
    done = subprocess.run(
        [sys.executable, "-m", "storms.manager", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=TESTS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
