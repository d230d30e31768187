"""The source of a main module: whether it has a guard, and which names an import binds."""

from __future__ import annotations

import ast
import tokenize

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Source", "read_file"]


class Source:
    """The part of a module's source that an import as ``__mp_main__`` runs."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.is_guarded: bool = any(map(_is_guard, _run_at_import(tree.body)))
        self._lines: list[tuple[int, int]] = []
        self._only_here: set[str] = set()
        self._there: set[str] | None = None
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
            elif self.is_skipped(getattr(each, "lineno", 0)):
                self._only_here.update(_bound_by(each))
        self._only_here -= there
        if not _binds_names_otherwise(tree):
            self._there = there

    def is_skipped(self, line: int) -> bool:
        """Whether an import skips this line."""
        return any(first <= line <= last for first, last in self._lines)

    def binds(self, name: str) -> bool:
        """Whether the module has this name once it is imported."""
        if name in self._only_here:
            return False
        return self._there is None or name in self._there


def read_file(path: str) -> str:
    """Read a file in the encoding that it declares."""
    with tokenize.open(path) as file:
        return file.read()


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
    """Return the value of an ``if``'s test in an import as ``__mp_main__``."""
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
    """Whether the statement depends on a comparison with ``__name__``."""
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
