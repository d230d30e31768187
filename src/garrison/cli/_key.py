"""``garrison key``: a new random key for a server and its clients."""

from __future__ import annotations

import argparse
import sys

from garrison._typing import Any
from garrison.net import generate_key

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to a command line."""
    parser = commands.add_parser(
        "key",
        help="print a new random key",
        description="Print a new random key: umask 077; garrison key > FILE. A server and its "
        "clients get the same one (--key-file FILE, key=Path(FILE)). With --name it is one of "
        "several keys of a server: add what is printed to the server's file (--keys FILE).",
    )
    parser.add_argument("--name", help="print a line with this name, for a file of several keys")
    parser.add_argument(
        "--read-only", action="store_true", help="with --name: a key that can change nothing"
    )
    parser.set_defaults(command=_print_key)


def _print_key(arguments: argparse.Namespace) -> int:
    key, name = generate_key().decode(), arguments.name
    if name is None and not arguments.read_only:
        print(key)
        return 0
    if not name or name.split() != [name] or name.startswith("#"):
        print("garrison key: --name NAME is one word, and --read-only needs one", file=sys.stderr)
        return 2
    print(name, "read" if arguments.read_only else "full", key)
    return 0
