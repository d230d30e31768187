"""The build backend: what is missing is said in one line, before anything is built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOOKS = ("get_requires_for_build_wheel", "get_requires_for_build_sdist", "build_editable")


def call(hook: str, tools: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call a hook of the backend with a PATH that has these tools only."""
    code = f"import garrison_build as backend; print(backend.{hook}('unused'))"
    path = os.pathsep.join([str(ROOT / "packaging"), variables.pop("FIRST", "")])
    kept = {name: value for name, value in os.environ.items() if name not in {"CC", "CARGO"}}
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**kept, "PATH": str(tools), "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def with_tools(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("hook", HOOKS)
def test_without_cargo_the_first_line_says_so(hook: str, tmp_path: Path) -> None:
    done = call(hook, with_tools(tmp_path, "cc"))
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("garrison cannot be built here: cargo was not found: install Rust")
    assert "pip install --only-binary" in line


@pytest.mark.parametrize("compiler", ["", "no-such-compiler -m64"])
def test_without_a_c_compiler_the_first_line_says_so(compiler: str, tmp_path: Path) -> None:
    done = call(HOOKS[0], with_tools(tmp_path, "cargo"), CC=compiler)
    (line,) = done.stderr.splitlines()
    assert line.startswith("garrison cannot be built here: no C compiler was found (")
    assert compiler.partition(" ")[0] in line


@pytest.mark.parametrize(
    ("tools", "variables"),
    [
        (["cargo", "cc"], {}),
        (["cargo", "my-compiler"], {"CC": "my-compiler -m64"}),
        (["cargo"], {"MATURIN_PEP517_ARGS": "--zig --features extension-module"}),
    ],
)
def test_with_its_tools_it_needs_maturin_only(
    tools: list[str], variables: dict[str, str], tmp_path: Path
) -> None:
    done = call(HOOKS[0], with_tools(tmp_path, *tools), **variables)
    assert done.stdout.startswith("['maturin")
    assert done.stderr == ""


def test_on_other_systems_it_needs_no_compiler(tmp_path: Path) -> None:
    code = "import sys; sys.platform = 'darwin'\n"
    (tmp_path / "garrison_build.py").write_text(
        code + (ROOT / "packaging" / "garrison_build.py").read_text().partition("annotations\n")[2]
    )
    done = call(HOOKS[0], tmp_path, FIRST=str(tmp_path), PYTHONPATH=str(tmp_path))
    assert done.stdout.startswith("['hatchling")
