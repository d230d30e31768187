"""The structure of the source: private modules stay private, no import circles, short functions."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from test_layers import LAYERS, SOURCE, imported_names

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

MAX_LINES = 40
"""Lines of a Python function, without its docstring."""


@functools.cache
def parsed(root: Path) -> dict[str, ast.Module]:
    """Return each module's syntax tree, by its dotted name."""
    trees = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def module_of(target: str, modules: Container[str]) -> str:
    """Return the module in which an imported name is, or nothing."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target


def imports(tree: ast.AST, *, at_run_time: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of each import, or only of those when the module is loaded."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((node.lineno, name) for name in imported_names(node, []))
        elif not (at_run_time and is_left_out(node)):
            yield from imports(node, at_run_time=at_run_time)


def is_left_out(node: ast.AST) -> bool:
    """Whether loading a module leaves a statement out: functions, and imports for annotations."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


# --- Private modules -----------------------------------------------------------------------------


def private_imports(root: Path) -> list[str]:
    """List the imports of another package's private modules."""
    modules = parsed(root)
    found = []
    for name, tree in modules.items():
        package = name.split(".")[1:2]
        for line, target in imports(tree):
            module = module_of(target, modules)
            parts = module.split(".")
            if parts[1:2] != package and any(part.startswith("_") for part in parts[2:]):
                found.append(f"{name}:{line}: {module}")
    return found


def test_no_package_imports_a_private_module_of_another() -> None:
    assert private_imports(SOURCE) == []


# --- Circles -------------------------------------------------------------------------------------


def loads(root: Path) -> dict[str, set[str]]:
    """Return, for each module, those that it loads while it is loaded itself."""
    modules = parsed(root)
    graph: dict[str, set[str]] = {}
    for name, tree in modules.items():
        targets = {module_of(each, modules) for _, each in imports(tree, at_run_time=True)}
        # A package that is loaded on the way to its own module is no circle.
        graph[name] = {each for each in targets if each and not f"{name}.".startswith(f"{each}.")}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return a circle for each module that can be reached from itself."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for each in sorted(graph.get(name, ())):
                visit(each, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def test_no_modules_import_each_other() -> None:
    assert circles(loads(SOURCE)) == []


# --- Functions, and the lists of this suite ------------------------------------------------------


def long_functions(root: Path) -> list[str]:
    """List the functions of more than `MAX_LINES` lines."""
    return [
        f"{name}.{node.name}: {length} lines"
        for name, tree in parsed(root).items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := lines_of_code(node)) > MAX_LINES
    ]


def lines_of_code(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function, without its docstring."""
    docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    documented = docstring.end_lineno - docstring.lineno + 1 if docstring is not None else 0  # type: ignore[operator]
    return node.end_lineno - node.lineno + 1 - documented  # type: ignore[operator]


def test_functions_are_short() -> None:
    assert long_functions(SOURCE) == []


def test_every_layer_exists() -> None:
    names = [name for names in LAYERS for name in names.split(" | ")]
    assert [name for name in names if not any(SOURCE.glob(f"{name}*"))] == []


# --- The checks themselves -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "check", "expected"),
    [
        (
            {"a/_b.py": "", "c/d.py": "from garrison.a._b import x"},
            private_imports,
            ["garrison.c.d:1: garrison.a._b"],
        ),
        ({"a/_b.py": "", "a/c.py": "from garrison.a import _b"}, private_imports, []),
        ({"a/_b.py": "", "c.py": "from garrison.a import x"}, private_imports, []),
        ({"a.py": "from garrison import b", "b.py": "from garrison.a import x"}, circles, [2]),
        (
            {"a.py": "import garrison.b", "b.py": "def f():\n    from garrison import a"},
            circles,
            [],
        ),
        ({"a.py": "def f():\n" + "    x = 1\n" * 41}, long_functions, ["garrison.a.f: 42 lines"]),
    ],
)
def test_the_checks_themselves(
    tmp_path: Path, files: dict[str, str], check: object, expected: list[object]
) -> None:
    root = tmp_path / "garrison"
    for name, text in files.items():
        file = root / name
        for folder in (file.parent, root):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "__init__.py").touch()
        file.write_text(text)
    if check is circles:
        assert [len(set(each)) for each in circles(loads(root))] == expected
    else:
        assert callable(check)
        assert check(root) == expected
