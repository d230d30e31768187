"""``garrison script.py``: run a program with garrison in the place of multiprocessing.

As ``python script.py``, ``python -m module`` and ``python -c code`` run it: its name, arguments,
path, traceback and exit status are the same, and its children have garrison too.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from garrison import _standard
from garrison._typing import Any, NoReturn

__all__ = ["is_program", "run"]

_OPTIONS = ("-m", "-c", "-")
_USAGE = 2


def is_program(arguments: list[str]) -> bool:
    """Whether a command line names a program, not a command of garrison."""
    first = arguments[0] if arguments else "--help"
    if first.startswith("-"):
        return first in _OPTIONS
    return os.sep in first or first.endswith((".py", ".pyc")) or Path(first).exists()


def run(arguments: list[str]) -> None:
    """Run the program that a command line names.

    Parameters
    ----------
    arguments
        ``-m module``, ``-c code``, ``-`` for the standard input, or the path of a script; then the
        arguments of the program.
    """
    _standard.install()
    first, *rest = arguments
    try:
        if first in {"-m", "-c"} and not rest:
            _fail(f"argument expected for the {first} option")
        if first == "-m":
            sys.argv = [first, *rest[1:]]
            _run_module(rest[0], alter_argv=True)
        elif first == "-c":
            sys.argv = [first, *rest[1:]]
            _run_code(compile(rest[0], "<string>", "exec"), "")
        elif first == "-":
            sys.argv = arguments
            _run_code(compile(sys.stdin.read(), "<stdin>", "exec"), "", "<stdin>")
        else:
            sys.argv = arguments
            _run_path(first)
    except SystemExit:
        raise
    except BaseException:
        _show_only_the_programs_frames()
        raise


def _fail(message: str) -> NoReturn:
    print(f"garrison: {message}", file=sys.stderr)
    raise SystemExit(_USAGE)


def _run_path(path: str) -> None:
    full = os.path.abspath(path)  # noqa: PTH100 - not what a link leads to
    finder = pkgutil.get_importer(path)
    if finder is not None and not isinstance(finder, _Nothing):
        _change_path(full)
        _run_module("__main__", alter_argv=False)
        return
    try:
        with io.open_code(str(Path(path).resolve())) as file:
            code = pkgutil.read_code(file)
            if code is None:
                file.seek(0)
                code = compile(file.read(), full, "exec")
    except OSError as error:
        _fail(f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}")
    # As in Python: the path of a link, and the directory of its target.
    _run_code(code, str(Path(path).resolve().parent), full)


_Nothing: Any = type(pkgutil.get_importer(os.devnull))
"""The importer of a path from which nothing can be imported."""


def _change_path(first: str) -> None:
    """Search modules there, and not in the directory of garrison's command."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = first


def _new_main() -> ModuleType:
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return main


def _run_module(name: str, *, alter_argv: bool) -> None:
    _new_main()
    as_main: Any = vars(runpy)["_run_module_as_main"]
    as_main(name, alter_argv)


def _run_code(code: CodeType, folder: str, file: str | None = None) -> None:
    main, names = _new_main(), importlib.machinery
    main.__loader__ = names.SourceFileLoader("__main__", file) if folder and file else None
    main.__loader__ = main.__loader__ or names.BuiltinImporter
    if file is not None:
        main.__file__ = file
        main.__dict__["__cached__"] = None
    _change_path(folder)
    exec(code, main.__dict__)  # noqa: S102 - that is what was asked for


def _show_only_the_programs_frames() -> None:
    """Make the traceback that ends the program begin with the program's frames."""
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        while trace is not None and trace.tb_next is not None and _is_ours(trace):
            trace = trace.tb_next
        if trace is not None and _is_ours(trace):
            trace = None
        show(kind, error.with_traceback(trace), trace)

    sys.excepthook = hook


def _is_ours(trace: TracebackType) -> bool:
    file = trace.tb_frame.f_code.co_filename
    return file.startswith(_OURS) or file in _STARTERS


_OURS = str(Path(__file__).parent.parent) + os.sep
_STARTERS = {"<frozen runpy>", vars(runpy)["_run_code"].__code__.co_filename}
