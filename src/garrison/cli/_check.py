"""``garrison check``: what is damaged in the folder of a store, and what is lost."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from garrison._typing import Any
from garrison.errors import StoreVersion
from garrison.store import Inspection, inspect_folder

__all__ = ["add_parser"]

SOUND, DAMAGED, UNUSABLE = 0, 1, 2
MOST_LINES = 50
"""Lines of each list; a disk may lose much at once."""


def add_parser(commands: Any) -> None:
    """Add the command to a command line."""
    parser = commands.add_parser(
        "check",
        help="look for damage in the folder of a store",
        description="Look at all that is in the folder of a store, of Manager(path=...) or of "
        "garrison serve --path, which no process has open; say what is damaged and what is lost. "
        "Nothing is changed. The exit status is 0 for a sound store, 1 for a damaged one, 2 if it "
        "cannot be checked.",
    )
    parser.add_argument("path", type=Path, metavar="FOLDER", help="the folder")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    path = str(arguments.path.absolute())
    try:
        found = inspect_folder(path)
    except (OSError, StoreVersion) as error:
        print(f"garrison check: {error}", file=sys.stderr)
        return UNUSABLE
    _print(path, found)
    return DAMAGED if found.damage else SOUND


def _print(path: str, found: Inspection) -> None:
    size = f"{found.records} records, {found.containers} containers, {found.bytes_used} bytes"
    print(f"{path}: {'damaged' if found.damage else 'sound'} ({size})")
    if not found.has_sums:
        print(
            "Its values have no sums (a backup of a store in memory, or one of an early garrison): "
            "a changed byte in one is not seen."
        )
    _print_list("damaged:", found.damage)
    _print_list("lost:", found.lost)
    if found.damage:
        print("Restore it from a backup. Manager(path=..., check=False) may read what is left.")


def _print_list(title: str, lines: list[str]) -> None:
    if lines:
        print(title)
    for line in lines[:MOST_LINES]:
        print(f"  {line}")
    if len(lines) > MOST_LINES:
        print(f"  and {len(lines) - MOST_LINES} more")
