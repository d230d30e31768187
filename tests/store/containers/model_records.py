"""What the model keeps of a container, and small helpers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .model_codec import CHILD, REF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Record:
    kind: int
    aux: int
    info: bytes
    data: Any
    refs: int = 0
    count: int = 0
    is_shut: bool = False
    holds: int = 0
    owned: bool = False
    claims: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> Record:
        return replace(self, data=self.data.copy(), claims=dict(self.claims))


def settle_moves(ref: bytes, removed: list[bytes]) -> bytes | None:
    """Return the CHILD that `ref` leads to, if this very step removes it: then it is moved."""
    child = bytes([CHILD]) + ref[1:10]
    assert ref[0] == REF
    if child not in removed:
        return None
    removed.remove(child)
    return child


def total(found: Any, delta: Any) -> Any:
    if {type(found), type(delta)} <= {int, float}:
        return found + delta
    culprit = delta if type(found) in {int, float} else found
    raise TypeError(f"add() needs numbers (int or float), not {type(culprit).__name__}")


class Scan:
    """An iteration over entries as they were when it began."""

    def __init__(self, entries: list[Any], load: Callable[[Any], Any]) -> None:
        self._entries = iter(entries)
        self._load = load

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._load(next(self._entries))

    def next(self, n: int) -> list[Any]:
        return [item for _, item in zip(range(n), self, strict=False)]

    def close(self) -> None:
        self._entries = iter(())
