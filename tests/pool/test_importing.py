"""A module that starts processes as it is imported does not multiply in the workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

METHODS = ["fork", "spawn", "forkserver"]

START = {
    "pool": "garrison.get_context(METHOD).Pool(1).terminate()",
    "process": "p = garrison.get_context(METHOD).Process(target=print); p.start(); p.join()",
    "manager": "garrison.get_context(METHOD).Manager().shutdown()",
}


def run(folder: Path, module: str, program: str, method: str) -> str:
    (folder / "jobs.py").write_text(module.replace("METHOD", repr(method)))
    command = [sys.executable, "-c", program.replace("METHOD", repr(method))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", START)
def test_what_starts_at_import_is_refused_in_a_worker(
    what: str, method: str, tmp_path: Path
) -> None:
    module = f"""
import garrison, os
open("made", "a").write("x")
if os.path.getsize("made") > 1:
    try:
        {START[what]}
        print("started")
    except RuntimeError as error:
        print("refused", "bootstrapping phase" in str(error), flush=True)
class Given:
    pass
def function(given):
    return 1
"""
    program = """
import garrison, sys
pool = garrison.get_context(METHOD).Pool(1)
import jobs
print(pool.map(jobs.function, [jobs.Given()]), flush=True)
pool.terminate()
"""
    assert run(tmp_path, module, program, method) == "refused True\n[1]\n"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", START)
def test_task_may_import_a_module_that_starts_processes(
    what: str, method: str, tmp_path: Path
) -> None:
    module = f"import garrison\n{START[what]}\nprint('started', flush=True)"
    program = """
import garrison, importlib
with garrison.get_context(METHOD).Pool(1) as pool:
    pool.apply(lambda: importlib.import_module("jobs").__name__)
"""
    assert run(tmp_path, module, program, method).strip().endswith("started")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_at_the_top_of_a_guarded_main_module(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import garrison
open("made", "a").write("x")
pool = garrison.get_context({method!r}).Pool(1)
if __name__ == "__main__":
    try:
        pool.apply(abs, (-1,))
    except garrison.PoolBroken as error:
        print("bootstrapping phase" in str(error))
""")
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "True\n"
    assert (tmp_path / "made").stat().st_size < 20
