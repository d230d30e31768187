"""What is damaged in the folder of a store, and what is lost: for ``garrison check``."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import StoreBusy, StoreCorrupt
from garrison.store._backend import KIND_NAMES
from garrison.store._folder import DATA, HOLDERS, open_data
from garrison.store._rendezvous import Rendezvous

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    Range = tuple[bytes, bytes | None]

__all__ = ["Inspection", "inspect_folder"]

_HEAD, _ITEM, _ORDER, _POSITION = range(4)
_AHEAD = 9
"""Bytes of a record's key in front of what tells it from others of its container."""
_NUMBER = 8


@dataclass
class Inspection:
    """What was found in a folder."""

    bytes_used: int = 0
    records: int = 0
    containers: int = 0
    has_sums: bool = True
    damage: list[str] = field(default_factory=list)
    """What is wrong with the file, a line each."""
    lost: list[str] = field(default_factory=list)
    """Which containers and items cannot be read for it."""


def inspect_folder(path: str) -> Inspection:
    """Look at all that is in the folder of a store; change nothing.

    Raises
    ------
    StoreBusy
        If a process has the store open.
    FileNotFoundError
        If the folder has no store.
    UntrustedFile
        If another user can change it.
    """
    with open_data(path) as (folder, fd), _alone(folder, path):
        return _inspect(fd)


@contextlib.contextmanager
def _kept_out(path: str) -> Any:
    """Keep other processes from opening it."""
    with Rendezvous(path) as rendezvous:
        if rendezvous.is_in_use:
            raise StoreBusy(
                f"{path} is in use, and changes all the time: check a backup of it, which "
                "manager.backup() makes, or end the processes that have it open"
            )
        yield


def _alone(folder: int, path: str) -> AbstractContextManager[Any]:
    try:
        os.stat(HOLDERS, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return contextlib.nullcontext()  # only the data were copied here
    return _kept_out(path)


def _inspect(fd: int) -> Inspection:
    try:
        size, records, has_sums, containers, damage = _core.inspect_store(fd)
    except StoreCorrupt as error:
        return _nothing(str(error))
    if not size:
        return _nothing(f"{DATA} is empty")
    found = Inspection(size, records, len(containers), has_sums)
    found.damage = [what for what, _, _ in damage]
    ranges = [(start, end) for _, start, end in damage]
    for number, container in containers.items():
        found.lost += _lost_of(number, container, ranges)
    found.lost += _unknown(ranges, set(containers))
    if not damage and records:
        found.damage = _audit(fd)
    return found


def _nothing(why: str) -> Inspection:
    return Inspection(damage=[why], lost=["everything: it cannot be told what there was"])


def _audit(fd: int) -> list[str]:
    lock = _core.memory_file()
    try:
        return _core.audit_store(fd, lock)
    except StoreCorrupt as error:
        return [str(error)]
    finally:
        os.close(lock)


def _lost_of(number: int, container: Any, ranges: list[Range]) -> list[str]:
    """Return what cannot be read of a container."""
    kind, length, items, is_freed, names = container
    title = " or ".join(repr(name.decode(errors="replace")) for name in names) or "without a name"
    what = f"{KIND_NAMES.get(kind, 'container of an unknown kind')} {title} (number {number})"
    if not kind:
        return [f"{what}: its head is lost; {items} items of it can be read"]
    keys = [start for start, end in ranges if start == end and _number(start) == number]
    lines = [f"{what}: {text}" for text in map(_described, keys) if text]
    if items < length and not is_freed:
        lines.insert(0, f"{what}: {length - items} of {length} items are lost")
    return lines


def _number(key: bytes) -> int:
    return int.from_bytes(key[:_NUMBER], "big")


def _described(key: bytes) -> str:
    """Return which item a damaged record is."""
    kind, rest = key[_NUMBER : _NUMBER + 1], key[_AHEAD:]
    if kind == bytes([_ITEM]):
        return f"the item {_key_text(rest)} is damaged"
    if kind == bytes([_POSITION]):
        return "an item is damaged"
    return "its order is damaged" if kind == bytes([_ORDER]) else ""


class _NoPickles:
    """Reads keys of plain types."""

    uuid = bytes(16)

    def loads(self, _: bytes) -> Any:
        raise ValueError("a pickled key")


def _key_text(canonical: bytes) -> str:
    try:
        return repr(_core.decode_key(canonical, b"", _NoPickles()))[:200]  # type: ignore[arg-type]
    except Exception:
        return f"with the canonical key {canonical[:40].hex()}"


def _unknown(ranges: list[Range], known: set[int]) -> list[str]:
    """Return which containers may be lost as a whole, by their numbers."""
    lines = []
    for start, end in ranges:
        if end in {start, b""}:
            continue
        first, last = _number(start), _number(end) if end else None
        if last is None:
            lines.append(f"containers behind number {first}, if there were more")
        elif any(number not in known for number in range(first + 1, min(last, first + 1000))):
            lines.append(f"containers between number {first} and {last}, if there were any")
    return lines
