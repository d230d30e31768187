"""The suite of all engines over Ray: in one process, which is alone, with one cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engines import alone
from engines.ray_nodes import ALL_OF_SUITE

pytest.importorskip("ray", reason="Ray is not installed")

HERE = Path(__file__).parent
MODULES = ["methods", "functions", "options", "errors", "failures", "life"]
SECONDS = 400.0


@pytest.mark.skipif(alone.INSIDE in os.environ, reason="this is the suite")
@pytest.mark.watchdog(SECONDS + alone.SECONDS_BEFORE)
def test_the_suite_passes_over_ray(request: pytest.FixtureRequest) -> None:
    files = [str(HERE / f"test_{name}.py") for name in MODULES]
    command = [*alone.UNSHARE, sys.executable, alone.__file__, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *files, "-k", "ray"],
        cwd=request.config.rootpath,
        env={**os.environ, alone.INSIDE: "1", ALL_OF_SUITE: "1"},
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
    counts = re.search(r"^ray: (\d+) passed.*(\n    .*)*", done.stdout, re.MULTILINE)
    assert counts is not None
    request.node.user_properties.append(("counts", counts[0]))
    assert int(counts[1]) > 100
