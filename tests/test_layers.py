"""Imports point down only: the order of the layers, and nothing outside it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parent.parent / "src" / "garrison"

STANDARD = (
    *("connection", "forkserver", "heap", "popen_fork", "popen_forkserver", "popen_spawn_posix"),
    *("process", "reduction", "resource_sharer", "resource_tracker", "spawn", "util"),
)
"""The standard library's modules under garrison's name."""

# From the ground up. Names on one line do not import each other.
LAYERS = [
    "_typing",
    "errors | _frozen",
    "_core | _lazy | _no_core | _standard",
    f"{' | '.join(STANDARD)}",
    "options | _os | _pickling",
    "memory",
    "sync | supervisor | net",
    "pool | store | queues | shared_memory | sharedctypes | synchronize",
    "aio | manager | engines | executor",
    "managers",
    "context | dummy | _elsewhere",
    "__init__",
    "fetch | joblib",
    "cli",
    "__main__",
]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names.split(" | ")}


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield each module's layer name, the first component of its path, with its file."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).with_suffix("").parts[0], path


def imported_layers(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Yield line and layer name of every import of the package, wherever in the file it is."""
    package = [root.name, *path.relative_to(root).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for dotted in imported_names(node, package):
            head, *rest = dotted.split(".")
            if head == root.name:
                yield node.lineno, layer_of(rest, root)  # type: ignore[attr-defined]


def imported_names(node: ast.AST, package: list[str]) -> list[str]:
    """Return in full the dotted names that an import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        stem = ".".join([*base, *([node.module] if node.module else [])])
        return [f"{stem}.{alias.name}" for alias in node.names]
    return []


def layer_of(rest: list[str], root: Path) -> str:
    """Tell `from garrison import pool` (a module) from `from garrison import Pool` (the face)."""
    if not rest:
        return "__init__"
    is_module = rest[0] in LEVELS or any(root.glob(f"{rest[0]}*"))
    return rest[0] if is_module else "__init__"


def upward_imports(root: Path) -> list[str]:
    """List every import that does not point down, and every module without a layer."""
    found = []
    for name, path in modules(root):
        where = path.relative_to(root)
        if name not in LEVELS:
            found.append(f"{where}: in no layer")
            continue
        found += [
            f"{where}:{line}: {name} imports {target}"
            for line, target in dict.fromkeys(imported_layers(path, root))
            if target != name and LEVELS.get(target, len(LAYERS)) >= LEVELS[name]
        ]
    return found


def test_imports_only_point_down() -> None:
    assert upward_imports(SOURCE) == []


def test_every_part_of_the_package_was_read() -> None:
    assert {path.name for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()} >= {
        path.relative_to(SOURCE).parts[0] for _, path in modules(SOURCE)
    }
    assert sum(1 for _ in modules(SOURCE)) > 1


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("errors.py", "from garrison.pool import Pool", "errors.py:1: errors imports pool"),
        ("errors.py", "from garrison import Pool", "errors.py:1: errors imports __init__"),
        ("errors.py", "def f():\n    import garrison.cli", "errors.py:2: errors imports cli"),
        ("_os.py", "from . import options", "_os.py:1: _os imports options"),
        ("pool/_main.py", "from ..cli import main", "pool/_main.py:1: pool imports cli"),
        ("pool/_main.py", "from .. import store", "pool/_main.py:1: pool imports store"),
        ("surprise.py", "", "surprise.py: in no layer"),
        ("pool/_main.py", "from . import _other\nfrom ..errors import X\nimport os", None),
        ("cli.py", "from garrison import Pool\nimport garrison.pool", None),
    ],
)
def test_the_check_itself(tmp_path: Path, module: str, source: str, complaint: str | None) -> None:
    file = tmp_path / "garrison" / module
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert upward_imports(tmp_path / "garrison") == ([complaint] if complaint else [])
