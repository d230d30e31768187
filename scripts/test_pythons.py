"""Run the tests on every other CPython from 3.10 to 3.14 at hand.

    python scripts/test_pythons.py            the part of the suite that answers in minutes
    python scripts/test_pythons.py --all      everything
    python scripts/test_pythons.py 3.13       one version

An interpreter is looked for on PATH, among pyenv's, and for 3.14 in a Debian tree, which is made
under target/ if need be. Each gets a virtual environment `.venv-3.N` with a build of its own. A
version that cannot be had is named and skipped; a failure of any step is the exit code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "target" / "debian-sid"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
NEEDS = ("pytest>=8.3", "numpy>=1.26", "psutil>=6.0", "msgpack>=1.0", "pycurl>=7.45.7")
NEEDS_OF = {"3.10": ("exceptiongroup>=1.2", "tomli>=2", "typing-extensions>=4.6")}
"""What pytest needs there besides: pip looks at conditions with the Python that runs it."""

QUICK = ("tests/programs", "tests/test_namespace.py", "tests/drop_in")
"""What runs without --all, which adds the rest of the suite and CPython's own tests."""


@dataclass(frozen=True)
class Interpreter:
    """A CPython: its version, and the command that runs it."""

    version: str
    command: tuple[str, ...]

    @property
    def runner(self) -> tuple[str, ...]:
        """What stands before every command: the entry to the Debian tree, or nothing."""
        return self.command[:-1]

    @property
    def venv(self) -> Path:
        """Its virtual environment."""
        return ROOT / f".venv-{self.version}"

    @property
    def python(self) -> tuple[str, ...]:
        """The command of the virtual environment's Python."""
        return (*self.runner, str(self.venv / "bin" / "python"))


def find(version: str) -> Interpreter | None:
    """Find an interpreter of a version, with its `venv` and its tests if possible."""
    home = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    candidates: list[tuple[str, ...]] = [
        (str(path),) for path in Path(home).glob(f"versions/{version}.*/bin/python3")
    ]
    candidates.append((f"python{version}",))
    if version == "3.14":
        candidates.append((str(TREE / "enter"), "python3.14"))
    for candidate in candidates:
        if _answers(candidate, version):
            return Interpreter(version, candidate)
    return None


def _answers(command: tuple[str, ...], version: str) -> bool:
    if command[0] == str(TREE / "enter"):
        script = ROOT / "scripts" / "debian_sid.sh"
        if subprocess.run(["/bin/sh", str(script), str(TREE)], check=False).returncode:
            return False
    code = "import sys, venv; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    try:
        asked = subprocess.run(
            [*command, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
        )
    except OSError:
        return False
    return asked.stdout.split() == ["cpython", version]


def prepare(interpreter: Interpreter) -> None:
    """Make the virtual environment, and install garrison and what its tests need."""
    version, venv = interpreter.version, interpreter.venv
    _call([*interpreter.command, "-m", "venv", "--clear", "--without-pip", str(venv)])
    wheels = ROOT / "target" / "wheels" / version
    target = f"{os.uname().machine}-unknown-linux-gnu"
    environment = {
        "CARGO_TARGET_DIR": str(ROOT / "target" / "others"),
        # A quarter of the time, and what is tested is the same.
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    }
    build = [sys.executable, "-m", "maturin", "build", "--release", "--quiet", "--target", target]
    features = ["--features", "extension-module,crash-points"]
    _call([*build, *features, "-i", f"python{version}", "--out", str(wheels)], environment)
    wheel = max(wheels.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    # From here, so that an interpreter needs neither pip nor a network of its own.
    site = venv / "lib" / f"python{version}" / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site)]
    choice = ["--python-version", version, "--only-binary", ":all:", "--upgrade"]
    _call([*install, *choice, str(wheel), *NEEDS, *NEEDS_OF.get(version, ())])


def test(interpreter: Interpreter, *, everything: bool) -> bool:
    """Run the tests; whether all of them passed."""
    pytest = [*interpreter.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    steps = [[*interpreter.python, "scripts/smoke.py"]]
    if everything:
        steps += [pytest, [*interpreter.python, "tests/conformance/run.py"]]
    else:
        steps += [[*pytest, *QUICK]]
    passed = [_passes(step) for step in steps]  # each, whatever becomes of the others
    return all(passed)


def _call(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **(environment or {})})


def _passes(command: Sequence[str]) -> bool:
    print("$", *command, flush=True)
    return subprocess.run(command, check=False, cwd=ROOT).returncode == 0


def main() -> None:
    """Test on each version and print what became of it."""
    parser = argparse.ArgumentParser(description="the tests on every other CPython")
    parser.add_argument("versions", nargs="*", default=[], metavar="3.N")
    parser.add_argument("--all", action="store_true", help="the whole suite")
    options = parser.parse_args()
    mine = f"{sys.version_info[0]}.{sys.version_info[1]}"
    verdicts = []
    for version in options.versions or [each for each in VERSIONS if each != mine]:
        began = time.monotonic()
        interpreter = find(version)
        if interpreter is None:
            verdicts.append(f"CPython {version}: not at hand, skipped")
            continue
        try:
            prepare(interpreter)
            verdict = "passed" if test(interpreter, everything=options.all) else "FAILED"
        except subprocess.CalledProcessError as error:
            verdict = f"FAILED to be prepared: {error}"
        verdicts.append(f"CPython {version}: {verdict}, {time.monotonic() - began:.0f} s")
    print("\n".join(verdicts))
    sys.exit(any("FAILED" in verdict for verdict in verdicts))


if __name__ == "__main__":
    main()
