"""The command line: ``garrison COMMAND``, the same as ``python -m garrison COMMAND``.

A command is one of garrison's (``fetch``, ``serve``, ``key``, ``check``), or names a program that
is run with garrison in the place of multiprocessing: ``script.py``, ``-m module``, ``-c code``,
each with its arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from garrison import __version__
from garrison.cli import _program
from garrison.errors import NeedsLinux

__all__ = ["main"]

_INTERRUPTED = 130
_USAGE = 2


def main(argv: list[str] | None = None) -> int:
    """Run a command of garrison.

    Parameters
    ----------
    argv
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit status.
    """
    given = sys.argv[1:] if argv is None else argv
    if _program.is_program(given):
        _program.run(given)
        return 0
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except NeedsLinux as error:
        print(f"garrison: {error}", file=sys.stderr)
        return _USAGE


def _parser() -> argparse.ArgumentParser:
    # Late: programs do not need it.
    from garrison import fetch
    from garrison.cli import _check, _key, _serve

    parser = argparse.ArgumentParser(
        prog="garrison",
        description="The multiprocessing that Python should have, as commands.",
        epilog="garrison [-m MODULE | -c CODE | SCRIPT] [ARGUMENT ...] runs a program in which "
        "multiprocessing is garrison.",
    )
    parser.add_argument("--version", action="version", version=f"garrison {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    fetch.add_parser(commands)
    _serve.add_parser(commands)
    _key.add_parser(commands)
    _check.add_parser(commands)
    return parser
