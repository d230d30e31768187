"""``garrison key``: a new random key for a server and its clients."""

from __future__ import annotations

import argparse

from garrison._typing import Any
from garrison.net import generate_key

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to a command line."""
    parser = commands.add_parser(
        "key",
        help="print a new random key",
        description="Print a new random key: umask 077; garrison key > FILE. A server and its "
        "clients get the same one (--key-file FILE, key=Path(FILE)).",
    )
    parser.set_defaults(command=_print_key)


def _print_key(_: argparse.Namespace) -> int:
    print(generate_key().decode())
    return 0
