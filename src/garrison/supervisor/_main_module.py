"""How a process without this one's memory gets ``__main__``.

It imports the module, as ``__mp_main__``, if the standard library would and the script has a guard
(``if __name__ == "__main__"``). A script without a guard would run again in each worker. Like a
notebook, a prompt, ``-c`` or standard input it is not imported, and its definitions go by value.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
import weakref
from multiprocessing import process

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.supervisor._main_source import Source

__all__ = ["MainModule", "imported_main", "is_importable", "main_path", "preparation_data"]


class MainModule:
    """A main module that other processes import, and the names that they will have of it."""

    def __init__(self, module: types.ModuleType, source: Source | None) -> None:
        # Not the module itself: its objects must be finalized at the end of the program.
        self._module = weakref.ref(module)
        self._file = getattr(module, "__file__", None)
        self._source = source

    def owns(self, names: dict[str, Any]) -> bool:
        """Whether this is the namespace of the module's functions here."""
        module = self._module()
        if module is None or vars(module) is names:
            return module is not None
        # If the standard library has imported the module, its functions have another namespace.
        is_imported = module.__name__ == names.get("__name__") == "__mp_main__"
        return is_imported and self._file == names.get("__file__")

    def has(self, name: str) -> bool:
        """Whether the module has this name in another process once it is imported."""
        return self._source is None or self._source.binds(name)

    def defines(self, value: Any) -> bool:
        """Whether another process has this function or class after the import."""
        if not self.has(value.__qualname__.partition(".")[0]):
            return False
        code = getattr(value, "__code__", None)
        if code is None or code.co_filename != self._file:
            return True
        return self._source is None or not self._source.is_skipped(code.co_firstlineno)


def imported_main() -> MainModule | None:
    """Return the main module if a process that starts now will import it."""
    main = sys.modules.get("__main__")
    if main is None or _place(main) is None:
        return None
    key = (id(main), _place(main))
    if key not in _found:
        _found.clear()
        _found[key] = _examine(main)
    return _found[key]


_found: dict[Any, MainModule | None] = {}


def preparation_data(name: str) -> dict[str, Any]:
    """Return the standard library's preparation data, without a main module not to be imported."""
    # Late: a pool under fork does not need it.
    from multiprocessing import spawn

    data: dict[str, Any] = spawn.get_preparation_data(name)
    if imported_main() is None:
        for key in ("init_main_from_name", "init_main_from_path"):
            data.pop(key, None)
    return data


def is_importable(name: str) -> bool:
    """Whether an import in another process finds the module that has this name here.

    Not so for a file that was loaded from its path, as plugins and some tests are.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if spec is None or not spec.has_location:
        # Built in, or created by its package.
        return "." in name or spec is not None
    parent, _, _ = name.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):
            found = finder.find_spec(name, path)
            if found is not None:
                return found.origin == spec.origin or not found.has_location
    return False


def main_path() -> str | None:
    """Return the path of a main module that a fork server imports in advance."""
    data = preparation_data("ignore")
    path: str | None = data.get("init_main_from_path")
    return path


def _place(main: types.ModuleType) -> tuple[str, str] | None:
    """Return the name or path by which a new process finds it, as in the standard library."""
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        # The ``__main__`` of packages, directories and archives is never imported again.
        return None if name == "__main__" or name.endswith(".__main__") else ("name", name)
    path = getattr(main, "__file__", None)
    if path is None or os.path.basename(path) in {"ipython", "ipython.py"}:  # noqa: PTH119 - a worker waits
        return None
    origin = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    if origin is not None:
        path = os.path.join(origin, path)  # noqa: PTH118 - as above
    return ("path", os.path.normpath(path))


def _examine(main: types.ModuleType) -> MainModule | None:
    if getattr(sys, "frozen", False):
        # The executable itself runs again, up to `freeze_support`.
        return MainModule(main, None)
    kind, where = _place(main) or ("", "")
    try:
        text = _source(main, where) if kind == "name" else _read(where)
    except (OSError, SyntaxError, UnicodeError, ImportError):
        text = None
    if text is None:
        return MainModule(main, None) if _code_is_guarded(main, kind, where) else None
    if "__name__" not in text:
        return None
    # Late: workers do not need it.
    from garrison.supervisor._main_source import Source

    try:
        source = Source(text)
    except (SyntaxError, ValueError):
        return None
    return MainModule(main, source) if source.is_guarded else None


def _source(main: types.ModuleType, name: str) -> str | None:
    loader: Any = getattr(main.__spec__, "loader", None)
    get_source = getattr(loader, "get_source", None)
    source: str | None = get_source(name) if get_source is not None else None
    return source


def _read(path: str) -> str | None:
    if path.endswith(".pyc"):
        return None
    from garrison.supervisor._main_source import read_file

    return read_file(path)


def _code_is_guarded(main: types.ModuleType, kind: str, where: str) -> bool:
    """Inspect a compiled module without its source."""
    try:
        if kind == "name":
            loader: Any = main.__spec__.loader if main.__spec__ else None
            code = loader.get_code(where)
        else:
            from importlib.machinery import SourcelessFileLoader

            loader = SourcelessFileLoader("__mp_main__", where)
            code = loader.get_code("__mp_main__")
    except (AttributeError, ImportError, OSError, EOFError, ValueError):
        return False
    names = {"__main__", "__mp_main__"}
    return "__name__" in code.co_names and any(
        isinstance(each, str) and each in names for each in code.co_consts
    )
