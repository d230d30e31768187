"""The command line: ``garrison COMMAND``, the same as ``python -m garrison COMMAND``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from garrison.cli._fetch import options

__all__ = ["main"]


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
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="garrison", description="The multiprocessing that Python should have, as commands."
    )
    parser.add_argument("--version", action="version", version="garrison 0.1.0")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    fetch = commands.add_parser(
        "fetch",
        help="fetch the pages of a list of sites",
        description=options.DESCRIPTION,
        epilog=options.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_arguments(fetch)
    fetch.set_defaults(command=_run_fetch)
    return parser


def _run_fetch(arguments: argparse.Namespace) -> int:
    from garrison.cli._fetch.command import run_fetch  # --help needs no libcurl

    return run_fetch(arguments)
