"""The command line: ``garrison COMMAND``, the same as ``python -m garrison COMMAND``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from garrison import __version__, fetch
from garrison.cli import _serve

__all__ = ["main"]

_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run a command of garrison.

    Parameters
    ----------
    argv
        The arguments; by default those that the process was started with.

    Returns
    -------
    int
        The exit status.
    """
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="garrison", description="The multiprocessing that Python should have, as commands."
    )
    parser.add_argument("--version", action="version", version=f"garrison {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    fetch.add_parser(commands)
    _serve.add_parser(commands)
    return parser
