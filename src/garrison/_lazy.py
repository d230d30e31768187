"""Packages whose names are loaded at their first use, so that imports are fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from garrison._typing import Any

__all__ = ["lazily"]


def lazily(
    package: str, namespace: dict[str, Any], homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package : str
        Its name.
    namespace : dict
        Its globals, which get each name at its first use.
    homes : mapping
        The names, by the submodule that has them.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        namespace[name] = value
        return value

    def names() -> list[str]:
        return sorted({*namespace, *home_of})

    return get, names
