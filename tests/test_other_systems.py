"""Where there is no core: on other systems the standard library, on Linux an error with a remedy.

The other systems are pretended (`pretending/sitecustomize.py`): an interpreter of Linux that says
that it is another one, without what that does not have.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SYSTEMS = ("darwin", "win32")


def run(
    code: str, system: str, *arguments: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program on a pretended system, with its warnings as errors, but for garrison's own."""
    path = os.pathsep.join([str(HERE / "pretending"), *sys.path[1:]])
    ignored = ("-W", "error", "-W", "ignore:garrison has no core:RuntimeWarning")
    return subprocess.run(
        [sys.executable, *(options or ignored), "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path, "PRETEND": system},
        capture_output=True,
        text=True,
        check=False,
    )


def printed(code: str, system: str) -> list[str]:
    done = run(code, system)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("system", SYSTEMS)
def test_import_warns_once_of_what_is_not_there(system: str) -> None:
    done = run("import garrison, garrison.pool", system, options=("-W", "default"))
    assert done.stderr.count("RuntimeWarning") == 1
    assert f"garrison has no core on {system}" in done.stderr
    assert "<string>:1" in done.stderr  # the program's own line


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_public_name_is_there(system: str) -> None:
    code = """
import garrison, multiprocessing
print([name for name in garrison.__all__ if not hasattr(garrison, name)])
print(garrison.NATIVE, garrison.Process is multiprocessing.Process)
print(garrison.Lock == multiprocessing.Lock, garrison.util is multiprocessing.util)
print(isinstance([], garrison.Shared), issubclass(garrison.TaskTimeout, TimeoutError))
"""
    assert printed(code, system) == ["[]", "False True", "True True", "False True"]


USES = {
    "garrison.share([1])": "garrison.share needs garrison's core",
    "garrison.connect('garrison://there:5000')": "garrison.connect needs",
    "garrison.Manager('valkey://there')": "an argument of Manager needs",
    "garrison.Pool(2, timeout=5)": "Options(timeout=5.0) needs",
    "garrison.Pool(2, engine='dask')": "engine='dask' needs",
    "garrison.pool.Pool(2, retries=1)": "Options(retries=1) needs",
    "type('Mine', (garrison.Pool,), {})(2, seed=1)": "Options(seed=1) needs",
    "garrison.sync.holders()": "garrison.holders needs",
    "garrison.memory.share([1])": "garrison.memory.share needs",
    "import garrison.store": "the module garrison.store needs",
    "from garrison import fetch": "the module garrison.fetch needs",
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_garrisons_own_says_that_it_needs_linux(system: str) -> None:
    code = f"""
import garrison
for use in {list(USES)}:
    try:
        exec(use)
    except garrison.NeedsLinux as error:
        print(error)
"""
    lines = printed(code, system)
    for line, named in zip(lines, USES.values(), strict=True):
        assert named in line
        assert f"this is {system}" in line
        assert "garrison.NATIVE" in line


@pytest.mark.parametrize("system", SYSTEMS)
def test_mistakes_are_what_they_are_on_linux(system: str) -> None:
    code = """
import garrison
try:
    garrison.Pool(2, timeuot=5)
except TypeError as error:
    print(error)
try:
    garrison.Pol
except AttributeError as error:
    print(error)
try:
    import garrison.quues
except ModuleNotFoundError as error:
    print(error)
"""
    option, attribute, module = printed(code, system)
    assert option.startswith("unknown option 'timeuot'")
    assert attribute == "module 'garrison' has no attribute 'Pol'"
    assert module == "No module named 'garrison.quues'"


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("engine", ["threads", "serial"])
def test_engines_without_processes_are_garrisons_own(system: str, engine: str) -> None:
    code = f"""
import garrison
tries = []
def sometimes(x):
    tries.append(x)
    if len(tries) == 1:
        raise ValueError(x)
    return x
with garrison.Pool(engine={engine!r}, retries=1, retry_on=ValueError) as pool:
    print(pool.apply(sometimes, (7,)), pool.map(lambda x: x + 1, range(3)))
    print(list(pool.imap(str, range(3))), sorted(pool.imap_unordered(str, range(3))))
    got = []
    pool.map_async(abs, [-1, -2], callback=got.append).wait()
    try:
        pool.starmap(pow, [(2, 3), (2, "3")])
    except TypeError:
        print(got)
    pool.close()
    pool.join()
"""
    assert printed(code, system) == [
        "7 [1, 2, 3]",
        "['0', '1', '2'] ['0', '1', '2']",
        "[[1, 2]]",
    ]


def test_a_program_for_the_standard_library_runs_on_it() -> None:
    """Only on a system that starts its processes as Linux does: the pretended Windows has none."""
    script = HERE.parent / "scripts" / "smoke_elsewhere.py"
    done = run("import garrison.cli; garrison.cli.main()", "darwin", str(script))
    assert done.stderr == ""
    assert done.stdout == "garrison on darwin: ok\n"


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_command_says_what_needs_linux(system: str) -> None:
    done = run("import sys, garrison.cli; sys.exit(garrison.cli.main(['serve']))", system)
    assert done.returncode == 2
    assert done.stderr.startswith("garrison: the module garrison.fetch needs garrison's core")
    assert done.stderr.count("\n") == 1


def test_without_its_core_garrison_says_how_to_get_it(tmp_path: Path) -> None:
    package = tmp_path / "garrison"
    package.mkdir()
    for path in (HERE.parent / "src" / "garrison").glob("*.py"):
        (package / path.name).write_bytes(path.read_bytes())
    (package / "_core").mkdir()  # its stubs, which are an empty package to an import
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import garrison"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: garrison is installed without its core for this Python (")
    assert "pip install" in last


def test_a_python_without_its_lock_is_told_what_to_do() -> None:
    """Only the flag is pretended: there is no free-threaded Python here."""
    code = """
import sys
class Flags:
    gil = 0
    def __getattr__(self, name, real=sys.flags):
        return getattr(real, name)
sys.flags = Flags()
import garrison
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: garrison's core relies on the global interpreter lock" in done.stderr
    assert "-X gil=0" in done.stderr
