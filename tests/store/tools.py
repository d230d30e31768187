"""A store for tests of the core alone: hooks without containers, in memory or in a folder."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from garrison import _core
from garrison.sync import Lock

# What a process keeps from the first lock on is its own, not that of the first test to take one.
with Lock():
    pass

DICT, LIST, SET, DEQUE, NAMESPACE, VALUE, ARRAY, QUEUE, JOINABLE_QUEUE, COUNTER = range(1, 11)
CHANGE_WORDS_BYTES = 4096
MEBIBYTE = 1 << 20


class Link(NamedTuple):
    """What stands here for a container: a container that was read."""

    kind: int
    c: int
    is_ref: bool


class Container:
    """An object that is stored as a reference."""

    def __init__(self, uuid: bytes, kind: int, c: int) -> None:
        self._identity = (uuid, kind, c)

    def __garrison_container__(self) -> tuple[bytes, int, int]:
        return self._identity


class Hooks:
    """What the backend asks of the layer above, without containers."""

    def __init__(self, uuid: bytes) -> None:
        self.uuid = uuid

    def dumps(self, obj: Any) -> bytes:
        return pickle.dumps(obj)

    def loads(self, data: bytes) -> Any:
        return pickle.loads(data)

    def key(self, obj: Any) -> bytes:
        hash(obj)
        if isinstance(obj, (int, float, str)):
            plain = next(t for t in (int, float, str) if isinstance(obj, t))(obj)
            return _core.encode_key(plain, self)[0]
        return b"p" + pickle.dumps(obj)

    def container(self, kind: int, c: int, is_ref: bool) -> Any:
        return Link(kind, c, is_ref)


class Memory:
    """Two files without a name; they must stay open for as long as a store is."""

    def __init__(self) -> None:
        self.files = [os.memfd_create("store"), os.memfd_create("store-locks")]

    def place(self) -> tuple[int, int]:
        data, lock = self.files
        return data, lock

    def close(self) -> None:
        for file in self.files:
            os.close(file)


def folder_place(folder: Path) -> Callable[[], str]:
    return lambda: str(folder)


class Words:
    """The writers' lock and the change words; one pair for all tests, one store after the other."""

    def __init__(self) -> None:
        spot = _core.SharedBlock(1 << 18)
        self.change_words = spot.part(0, CHANGE_WORDS_BYTES)
        self.lock = _core.Lock(spot, CHANGE_WORDS_BYTES, False, 2)
        self._busy = False

    @contextlib.contextmanager
    def lent(self) -> Iterator[Words]:
        assert not self._busy, "one store at a time"
        self._busy = True
        memoryview(self.change_words)[:] = bytes(CHANGE_WORDS_BYTES)
        try:
            yield self
        finally:
            self._busy = False


WORDS = Words()


@contextlib.contextmanager
def open_store(
    size: int = 64 * MEBIBYTE,
    folder: Path | None = None,
    *,
    in_memory: bool | None = None,
    sync: bool = False,
    owner: int = 1,
) -> Iterator[_core.Store]:
    memory = Memory()
    try:
        with WORDS.lent() as words:
            store = _core.Store(
                folder_place(folder) if folder else memory.place,
                Hooks(b"u" * 16),
                words.lock,
                words.change_words,
                size=size,
                in_memory=folder is None if in_memory is None else in_memory,
                sync=sync,
                owner=owner,
            )
            with contextlib.closing(store):
                yield store
    finally:
        memory.close()
