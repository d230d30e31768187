"""Packages that only an extra needs: without one its modules are skipped, by its name."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

OPTIONAL = {
    "anyio",
    "dask",
    "distributed",
    "joblib",
    "pycurl",
    "ray",
    "redis",
    "trio",
    "uvloop",
    "valkey",
}


def import_or_skip(name: str) -> ModuleType:
    """Import a module of garrison, or skip if what it needs is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
