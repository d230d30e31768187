"""The build backend: maturin's, after a look at the tools that it needs.

Without cargo or a C compiler `pip install` says so in the first line of its output, instead of
after a page of maturin's or cargo's. On other systems than Linux, where garrison has no core, there
is nothing to compile, and the wheel is made by hatchling.
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import sys
from typing import Any

MATURIN = "maturin>=1.12,<2"
HATCHLING = "hatchling>=1.27"
NATIVE = sys.platform == "linux"
C_COMPILERS = ("cc", "gcc", "clang")


def _missing_tool() -> str | None:
    """Return what is missing, and how to get it."""
    if not shutil.which(os.environ.get("CARGO", "cargo")):
        return (
            "cargo was not found: install Rust 1.85 or newer (https://rustup.rs, or the system's "
            "packages)"
        )
    if "--zig" in os.environ.get("MATURIN_PEP517_ARGS", ""):
        return None  # which is a C compiler
    chosen = shlex.split(os.environ.get("CC", ""))[:1]
    if not any(map(shutil.which, chosen or C_COMPILERS)):
        return (
            f"no C compiler was found ({', '.join(chosen or C_COMPILERS)}): install one (on Debian "
            "and Ubuntu: apt-get install build-essential), or name it in CC"
        )
    return None


def _check_tools() -> None:
    missing = _missing_tool()
    if missing is not None:
        # Not an exception: pip shows the last lines of a traceback, and this is the only one.
        raise SystemExit(
            f"garrison cannot be built here: {missing}. Its wheels need neither cargo nor a "
            "compiler: pip install --only-binary garrison garrison"
        )


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:  # noqa: ARG001
    """Return what a wheel is built with, once it is known that it can be built."""
    if not NATIVE:
        return [HATCHLING]
    _check_tools()
    return [MATURIN]


def get_requires_for_build_sdist(config_settings: Any = None) -> list[str]:  # noqa: ARG001
    """Return what a source distribution is made with."""
    _check_tools()
    return [MATURIN]


def _call(hook: str, *arguments: Any) -> Any:
    if NATIVE:
        _check_tools()  # again: without isolation nobody has asked what is required
    backend = importlib.import_module("maturin" if NATIVE else "hatchling.build")
    return getattr(backend, hook)(*arguments)


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> Any:
    """Build a wheel."""
    return _call("build_wheel", wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> Any:
    """Build a wheel that finds the sources where they are."""
    return _call("build_editable", wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Any = None) -> Any:
    """Make a source distribution."""
    _check_tools()
    return importlib.import_module("maturin").build_sdist(sdist_directory, config_settings)


if NATIVE:  # hatchling leaves it to the wheel

    def prepare_metadata_for_build_wheel(
        metadata_directory: str, config_settings: Any = None
    ) -> Any:
        """Write the metadata of a wheel."""
        return _call("prepare_metadata_for_build_wheel", metadata_directory, config_settings)

    prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel

get_requires_for_build_editable = get_requires_for_build_wheel
