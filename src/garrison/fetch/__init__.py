"""``garrison fetch``: the pages of a list of sites, by a pool of processes.

`add_parser` and `run` are the command; the modules below are its parts, from what a
line of the file means (``_sites``) to the exit status (``_command``).
"""

from __future__ import annotations

import argparse
import sys

from garrison.fetch import _options

__all__ = ["add_parser", "run"]

_WITHOUT_LIBCURL = """\
garrison fetch: libcurl makes the transfers, and Python cannot load it ({}).
It comes with: pip install "garrison[fetch]"
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of a parser.

    Parameters
    ----------
    commands
        The result of ``parser.add_subparsers()``.
    """
    parser = commands.add_parser(
        "fetch",
        help="fetch the pages of a list of sites",
        description=_options.DESCRIPTION,
        epilog=_options.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _options.add_arguments(parser)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit status.

    Parameters
    ----------
    arguments
        The command line, parsed by the parser of `add_parser`.
    """
    # Late, for --help needs no libcurl.
    try:
        import pycurl  # noqa: F401
    except ImportError as error:
        sys.stderr.write(_WITHOUT_LIBCURL.format(error))
        return 2
    from garrison.fetch._command import run_fetch

    return run_fetch(arguments)
