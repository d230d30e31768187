"""The suite of all engines over Ray: in one process, which is alone, with one cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines import alone, counts
from engines.ray_nodes import ALL_OF_SUITE
from engines.subjects import ONLY

pytest.importorskip("ray", reason="Ray is not installed")

HERE = Path(__file__).parent
MODULES = ["methods", "functions", "options", "errors", "failures", "life"]
SECONDS = 400.0


@pytest.mark.skipif(alone.INSIDE in os.environ, reason="this is the suite")
@pytest.mark.watchdog(SECONDS + alone.SECONDS_BEFORE)
def test_the_suite_passes_over_ray(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    seen = tmp_path / "counts"
    files = [str(HERE / f"test_{name}.py") for name in MODULES]
    command = [*alone.UNSHARE, sys.executable, alone.__file__, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *files, "-k", "ray"],
        cwd=pytestconfig.rootpath,
        env={
            **os.environ,
            alone.INSIDE: "1",
            ALL_OF_SUITE: "1",
            ONLY: "ray",
            counts.IN_FILE: str(seen),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if "unshare failed" in done.stdout:
        pytest.skip("this system lets no user make a network namespace")
    sys.stdout.write(done.stdout)
    assert done.returncode == 0
    counts.add(seen)
    assert counts.of("ray").passed > 100
