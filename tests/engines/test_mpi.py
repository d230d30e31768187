"""The suite over mpi4py's executor, in a run of its own whose workers mpiexec has started."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import counts
from .executors import WORKERS
from .subject_executors import UNDER_MPI

FOLDER = Path(__file__).parent
SECONDS = 240


@pytest.mark.watchdog(SECONDS + 30)
@pytest.mark.skipif(UNDER_MPI in os.environ, reason="this is that run")
def test_suite_over_mpi(tmp_path: Path) -> None:
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip(f"mpi4py is not installed in {sys.prefix}")
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    mpiexec = shutil.which("mpiexec", path=places)
    if mpiexec is None:
        pytest.skip("there is no mpiexec")
    under_mpi = [mpiexec, "-n", str(WORKERS + 1), sys.executable, "-m", "mpi4py.futures"]
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "MPI", str(FOLDER)]
    done = subprocess.run(
        [*under_mpi, *suite],
        env={**os.environ, UNDER_MPI: "1", counts.IN_FILE: str(tmp_path / "counts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    counts.add(tmp_path / "counts")
