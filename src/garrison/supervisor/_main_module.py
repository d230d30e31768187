"""How ``__main__`` reaches a process that does not have this one's memory.

Imported, as ``__mp_main__``, where the standard library would import it and the script expects
that: it looks at ``__name__``, as in ``if __name__ == "__main__"``. A script that never does would
run again in each worker; like a notebook, a prompt, ``-c`` or standard input it stays where it is,
and what it defines goes by value.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import tokenize
import types
import weakref
from multiprocessing import process, spawn
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MainModule", "imported_main", "is_importable", "main_path", "preparation_data"]


class MainModule:
    """A main module that other processes import: which of its names they will have."""

    def __init__(self, module: types.ModuleType, tree: ast.Module | None) -> None:
        # Not the module itself, or the end of the program would come late for what is in it.
        self._module = weakref.ref(module)
        self._file = getattr(module, "__file__", None)
        self._lines: list[tuple[int, int]] = []
        self._only_here: set[str] = set()
        self._there: set[str] | None = None
        if tree is not None:
            self._read(tree)

    def _read(self, tree: ast.Module) -> None:
        there: set[str] = set()
        for node in _run_at_import(tree.body):
            if _is_guard(node):
                self._lines += _skipped(node)
            else:
                there.update(_bound_by(node))
        for each in ast.walk(tree):
            if isinstance(each, ast.Global):
                self._only_here.update(each.names)
            elif self._guarded(getattr(each, "lineno", 0)):
                self._only_here.update(_bound_by(each))
        self._only_here -= there
        if not _binds_names_otherwise(tree):
            self._there = there

    def _guarded(self, line: int) -> bool:
        return any(first <= line <= last for first, last in self._lines)

    def owns(self, names: dict[str, Any]) -> bool:
        """Whether this is the namespace of the module's functions here."""
        module = self._module()
        if module is None or vars(module) is names:
            return module is not None
        # Where the standard library has imported the module, its functions have another one.
        is_imported = module.__name__ == names.get("__name__") == "__mp_main__"
        return is_imported and self._file == names.get("__file__")

    def has(self, name: str) -> bool:
        """Whether the module has this name in another process, as soon as it is imported."""
        if name in self._only_here:
            return False
        return self._there is None or name in self._there

    def defines(self, value: Any) -> bool:
        """Whether another process gets this function or class by the import."""
        if not self.has(value.__qualname__.partition(".")[0]):
            return False
        code = getattr(value, "__code__", None)
        if code is None or code.co_filename != self._file:
            return True
        return not self._guarded(code.co_firstlineno)


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
    """Return the standard library's preparation data, without a main module that stays here."""
    data: dict[str, Any] = spawn.get_preparation_data(name)
    if imported_main() is None:
        for key in ("init_main_from_name", "init_main_from_path"):
            data.pop(key, None)
    return data


def is_importable(name: str) -> bool:
    """Whether an import in another process leads to the module that has this name here.

    Not so for a file that was loaded from its path, as plugins and some tests are.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if spec is None or not spec.has_location:
        # Built in, or made by the package that it belongs to.
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
    """Return where a new process finds it: the name or the path, as the standard library says."""
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        # The ``__main__`` of packages, folders and archives is never imported again.
        return None if name == "__main__" or name.endswith(".__main__") else ("name", name)
    path = getattr(main, "__file__", None)
    if path is None or Path(path).stem == "ipython":
        return None
    origin = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    if origin is not None:
        path = Path(origin, path)
    return ("path", os.path.normpath(path))


def _examine(main: types.ModuleType) -> MainModule | None:
    if getattr(sys, "frozen", False):
        # The executable itself runs again, up to `freeze_support`.
        return MainModule(main, None)
    kind, where = _place(main) or ("", "")
    try:
        source = _source(main, where) if kind == "name" else _read(where)
    except (OSError, SyntaxError, UnicodeError, ImportError):
        source = None
    if source is None:
        return MainModule(main, None) if _code_is_guarded(main, kind, where) else None
    if "__name__" not in source:
        return None
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    return MainModule(main, tree) if any(map(_is_guard, _run_at_import(tree.body))) else None


def _source(main: types.ModuleType, name: str) -> str | None:
    loader: Any = getattr(main.__spec__, "loader", None)
    get_source = getattr(loader, "get_source", None)
    source: str | None = get_source(name) if get_source is not None else None
    return source


def _read(path: str) -> str | None:
    if path.endswith(".pyc"):
        return None
    with tokenize.open(path) as file:
        return file.read()


def _code_is_guarded(main: types.ModuleType, kind: str, where: str) -> bool:
    """Look at a compiled module without its source."""
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


# --- Reading the source -----------------------------------------------------------------------

_NEW_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def _run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that an import as ``__mp_main__`` runs, and its guards."""
    for statement in body:
        yield statement
        if isinstance(statement, _NEW_SCOPE):
            continue
        for part in _blocks(statement):
            yield from _run_at_import(part)


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    if _is_guard(statement):
        outcome = _outcome(statement)
        if outcome is not None:
            yield statement.body if outcome else statement.orelse  # type: ignore[attr-defined]
        return
    for field in ("body", "orelse", "finalbody"):
        yield getattr(statement, field, [])
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body


def _outcome(guard: ast.stmt) -> bool | None:
    """Tell how the test of an ``if`` ends in an import as ``__mp_main__``."""
    if not isinstance(guard, ast.If):
        return None
    try:
        code = compile(ast.Expression(guard.test), "<guard>", "eval")
        return bool(eval(code, {"__builtins__": {}, "__name__": "__mp_main__"}))  # noqa: S307
    except Exception:
        return None


def _skipped(guard: ast.stmt) -> list[tuple[int, int]]:
    """Return the lines of a guard that an import does not run."""
    first, last = guard.lineno, guard.end_lineno or guard.lineno
    outcome = _outcome(guard)
    if outcome is None:
        return [(first, last)]
    middle = guard.body[-1].end_lineno or last  # type: ignore[attr-defined]
    return [(middle + 1, last)] if outcome else [(first, middle)]


def _is_guard(node: ast.AST) -> bool:
    """Whether the statement depends on what ``__name__`` is compared with."""
    if isinstance(node, _NEW_SCOPE):
        return False
    for part in _own_expressions(node):
        for each in ast.walk(part):
            if isinstance(each, ast.Compare) and _mentions_name(each):
                return True
    return isinstance(node, ast.Match) and _mentions_name(node.subject)


def _own_expressions(node: ast.AST) -> Iterator[ast.AST]:
    return (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))


def _mentions_name(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "__name__" for each in ast.walk(node))


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement itself binds, not those of statements within it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(node, ast.Try):
        yield from (handler.name for handler in node.handlers if handler.name)
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            yield from _stored(item)
    elif isinstance(node, ast.stmt):
        for part in _own_expressions(node):
            yield from _stored(part)


def _stored(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            yield each.id


_BINDERS = frozenset({"globals", "vars", "locals", "exec", "setattr"})


def _binds_names_otherwise(tree: ast.Module) -> bool:
    """Whether the module may have names that its source does not show."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            return True
        if isinstance(node, ast.Name) and node.id in _BINDERS:
            return True
    return False
