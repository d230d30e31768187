"""joblib's own tests of `Parallel`, which are in its package, with garrison in loky's place."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .running import needs

# It takes a minute: `make third-party` alone has scikit-learn.
pytestmark = [needs("joblib"), needs("sklearn")]

PLUGINS = Path(__file__).parent / "plugins"
SELECTED = "loky or None or generator or dispatch or interactively or kwargs or as_context_manager"
"""Tests that may use the backend; the others are of threads, or of joblib alone."""

NO_FILES = "large arrays are in shared memory: there are no files, and no numpy.memmap"
WORKERS_STAY = "workers go on after an error: they are not new ones"
LOKY_ITSELF = "about loky's own class, processes or executor"
NESTED = "a worker has no workers of its own, and a thread may use those of the process"
SLOW = "starts pools in dozens of fresh interpreters, or waits for seconds: minutes"
BYTE_ORDER = (
    "small results are pickled as in multiprocessing, which makes them of native byte order"
)
BETTER = "expects that a call breaks another one's generator"
DEEP = "a RecursionError out of a thousand nested calls cannot be pickled; the error says so"

EXCLUDED = {
    "test_auto_memmap_on_arrays_from_generator": NO_FILES,
    "test_memmapping_leaks": NO_FILES,
    "test_memmap_with_big_offset": NO_FILES,
    "test_error_capture": WORKERS_STAY,
    "test_nested_parallel_warnings": NESTED,
    "test_parallel_byteorder_corruption": BYTE_ORDER,
    "test_backend_context_manager": LOKY_ITSELF,
    "test_loky_reuse_workers": LOKY_ITSELF,
    "test_nested_parallelism_limit": LOKY_ITSELF,
    "test_threadpool_limitation_in_child_override": LOKY_ITSELF,
    "test_multiple_generator_call_separated_gc": BETTER,
    "test_thread_bomb_mitigation": DEEP,
    "test_parallel_with_interactively_defined_functions_loky": SLOW,
    "test_parallel_with_unpicklable_functions_in_args": SLOW,
    "test_abort_backend": SLOW,
    "test_no_blas_crash_or_freeze_with_subprocesses": SLOW,
}
"""Why a test does not apply."""


@pytest.mark.watchdog(600)
def test_joblibs_tests_pass_with_garrison_in_lokys_place(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    excluded = " and ".join(f"not {name}" for name in EXCLUDED)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "in_place_of_loky"),
            *("-p", "no:cacheprovider", "--tb=short"),
            *("-k", f"({SELECTED}) and {excluded}", "--pyargs", "joblib.test.test_parallel"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PLUGINS), "JOBLIB_START_METHOD": "fork"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 200
