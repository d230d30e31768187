"""Wherever the main module is from, its functions, classes and state work in a pool."""

from __future__ import annotations

import py_compile
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import garrison
IMPORT helper
STATE = {}
def init(value):
    STATE["value"] = value
def work(n):
    return n * STATE["value"] + helper.VALUE
class Item:
    def __init__(self, n):
        self.n = n
def unpack(item):
    return item.n, type(item) is Item
def main():
    for method in ("fork", "spawn", "forkserver"):
        with garrison.get_context(method).Pool(1, init, (5,)) as pool:
            item = pool.apply(Item, (1,))
            print(pool.apply(work, (2,)), pool.apply(unpack, (item,)), type(item) is Item)
            print(pool.map(lambda n: n + work(0), [1]))
if __name__ == "__main__":
    main()
"""
PLAIN, RELATIVE = (PROGRAM.replace("IMPORT", word) for word in ("import", "from . import"))


def package(folder: Path, name: str) -> None:
    inner = folder / "package"
    inner.mkdir()
    (inner / "__init__.py").touch()
    (inner / "helper.py").write_text("VALUE = 3\n")
    (inner / f"{name}.py").write_text(RELATIVE)


def plain(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text("VALUE = 3\n")
    (folder / name).write_text(PLAIN)
    return folder / name


def a_module_of_a_package(folder: Path) -> list[str]:
    package(folder, "module")
    return ["-m", "package.module"]


def a_package(folder: Path) -> list[str]:
    package(folder, "__main__")
    return ["-m", "package"]


def a_folder(folder: Path) -> list[str]:
    plain(folder / "app", "__main__.py")
    return ["app"]


def an_archive(folder: Path) -> list[str]:
    a_folder(folder)
    zipapp.create_archive(folder / "app", folder / "app.pyz")
    return ["app.pyz"]


def a_folder_with_spaces(folder: Path) -> list[str]:
    return [str(plain(folder / "a folder; with 'marks'", "the program.py"))]


def compiled_code(folder: Path) -> list[str]:
    script = plain(folder, "program.py")
    py_compile.compile(str(script), str(folder / "compiled.pyc"))
    script.unlink()
    return ["compiled.pyc"]


def a_path_run_by_runpy(folder: Path) -> list[str]:
    plain(folder, "program.py")
    return ["-c", "import runpy; runpy.run_path('program.py', run_name='__main__')"]


def a_module_run_by_runpy(folder: Path) -> list[str]:
    package(folder, "module")
    return ["-c", "import runpy; runpy.run_module('package.module', run_name='__main__')"]


def a_module_from_a_path(folder: Path) -> list[str]:
    plain(folder / "plugins", "plugin.py")
    text = """
import importlib.util, sys
if __name__ == "__main__":
    sys.path.append("plugins")
    import helper
    sys.path.pop()
    spec = importlib.util.spec_from_file_location("plugin", "plugins/plugin.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.helper = type("helper", (), {"VALUE": 3})
    module.main()
"""
    (folder / "program.py").write_text(text)
    return ["program.py"]


def code_that_was_executed(folder: Path) -> list[str]:
    plain(folder, "program.py")
    text = "import sys; sys.path.insert(0, '.'); names = {'__name__': '__main__'}"
    return ["-c", f"{text}; exec(open('program.py').read(), names)"]


def a_guard_within_try(folder: Path) -> list[str]:
    script = plain(folder, "program.py")
    before, guard, after = PLAIN.partition("if __name__")
    script.write_text(
        f"{before}try:\n    {guard}{after.replace('    main', '        main')}\n"
        "finally:\n    pass\n"
    )
    return ["program.py"]


def a_guard_for_workers(folder: Path) -> list[str]:
    script = plain(folder, "program.py")
    script.write_text(PLAIN.replace('__name__ == "__main__"', "__name__ != '__mp_main__'"))
    return ["program.py"]


PLACES: list[Callable[[Path], list[str]]] = [
    a_module_of_a_package,
    a_package,
    a_folder,
    an_archive,
    a_folder_with_spaces,
    compiled_code,
    a_path_run_by_runpy,
    a_module_run_by_runpy,
    a_module_from_a_path,
    code_that_was_executed,
    a_guard_within_try,
    a_guard_for_workers,
]


@pytest.mark.parametrize("place", PLACES)
def test_main_module_of_any_origin_is_found(
    place: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, *place(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "13 (1, True) True\n[4]\n" * 3, done.stderr
    assert done.returncode == 0
