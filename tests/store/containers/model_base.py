"""The model's records and transactions, and the values in them."""

from __future__ import annotations

import functools
import itertools
import threading
from collections import Counter
from typing import Any, TypeVar, cast

from garrison.errors import ContainerGone, StoreBusy, WrongKind
from garrison.store import Kind, PythonTransaction
from garrison.store._backend import KIND_NAMES, Transactions

from .model_codec import (
    CHILD,
    DICT,
    REF,
    SET,
    TREE,
    decode_value,
    encode_key,
    encode_value,
    link,
    tree_limit,
    tree_parts,
)
from .model_records import Record, settle_moves

MAPPINGS = {Kind.DICT, Kind.SET, Kind.NAMESPACE, Kind.COUNTER}

Method = TypeVar("Method", bound=Any)


def writes(method: Method) -> Method:
    """Make a method one atomic step: alone, or as a part of the thread's transaction."""

    @functools.wraps(method)
    def single_step(self: Base, *args: Any, **kwargs: Any) -> Any:
        if self.in_transaction:
            return method(self, *args, **kwargs)
        self.begin()
        try:
            result = method(self, *args, **kwargs)
        except BaseException:
            self.abort()
            raise
        self.commit()
        return result

    return cast("Method", single_step)


class Base:
    """Records, transactions, and what values lead to."""

    optimistic = False

    def __init__(self, hooks: Any) -> None:
        self.hooks = hooks
        self.uuid = hooks.uuid
        self._records: dict[int, Record] = {}
        self._names: dict[str, tuple[int, int]] = {}
        self._numbers = itertools.count(1)
        self._tickets = itertools.count(1)
        self._writer = threading.Lock()
        self._open: tuple[int, dict[int, Record | None], dict[str, tuple[int, int]]] | None = None
        self._rung = threading.Condition()
        self._bells: Counter[int] = Counter()

    # --- Transactions -------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        return self._open is not None and self._open[0] == threading.get_ident()

    def begin(self, timeout: float | None = None) -> None:
        if self.in_transaction:
            raise RuntimeError("this thread has a transaction already")
        if not self._writer.acquire(timeout=-1 if timeout is None else timeout):
            raise StoreBusy("somebody else is writing to the store")
        self._open = (threading.get_ident(), {}, dict(self._names))

    def commit(self) -> None:
        _, touched, names = self._mine()
        for c, record in touched.items():
            if record is None:
                self._records.pop(c, None)
            else:
                self._records[c] = record
        self._names = names
        self._open = None
        self._writer.release()
        with self._rung:
            self._bells.update(list(touched))
            self._rung.notify_all()

    def abort(self) -> None:
        self._mine()
        self._open = None
        self._writer.release()

    def transaction(
        self, timeout: float | None = None, nested_failure_ok: bool = False
    ) -> PythonTransaction:
        return PythonTransaction(cast("Transactions", self), timeout, nested_failure_ok)

    def _mine(self) -> Any:
        if not self.in_transaction:
            raise RuntimeError("this thread has no transaction")
        return self._open

    def _read(self, c: int) -> Record:
        record = self._records.get(c)
        if self.in_transaction:
            record = self._mine()[1].get(c, record)
        if record is None:
            raise ContainerGone(f"container {c} is gone")
        return record

    def _write(self, c: int) -> Record:
        touched = self._mine()[1]
        if touched.get(c) is None:
            touched[c] = self._read(c).copy()
        return cast("Record", touched[c])

    def _mapping(self, record: Record) -> dict[bytes, tuple[bytes, bytes]]:
        if record.kind not in MAPPINGS:
            raise WrongKind(f"{KIND_NAMES[record.kind]} has no keys")
        return record.data  # type: ignore[no-any-return]

    def _sequence(self, record: Record) -> list[bytes]:
        if record.kind in MAPPINGS:
            raise WrongKind(f"{KIND_NAMES[record.kind]} has no positions")
        return record.data  # type: ignore[no-any-return]

    # --- Values and what they lead to ---------------------------------------------------------

    def _store(self, obj: Any, removed: list[bytes] | None = None) -> bytes:
        return self._adopt(encode_value(obj, self.hooks), [] if removed is None else removed)

    def _adopt(self, encoded: bytes, removed: list[bytes]) -> bytes:
        """Return what is kept: children in place of trees. A child that is removed may stay."""
        if encoded[0] == REF:
            moved = settle_moves(encoded, removed)
            if moved is None:
                self._write(link(encoded)[1]).refs += 1
            return moved or encoded
        if encoded[0] != TREE:
            return encoded
        kind, parts = tree_parts(encoded)
        c = self._new(kind, tree_limit(encoded), owned=True)
        for index in range(0, len(parts), 2 if kind == DICT else 1):
            if kind in {DICT, SET}:
                canonical, original = self._key(decode_value(parts[index], self.hooks))
                value = self._adopt(parts[index + 1], []) if kind == DICT else b"\0"
                self._write(c).data.setdefault(canonical, (original, value))
            else:
                self._write(c).data.append(self._adopt(parts[index], []))
        return bytes([CHILD, kind]) + c.to_bytes(8, "little")

    def _release(self, removed: list[bytes]) -> None:
        for encoded in removed:
            if encoded[0] in {CHILD, REF}:
                record = self._write(link(encoded)[1])
                if encoded[0] == CHILD:
                    record.owned = False
                else:
                    record.refs -= 1

    @writes
    def collect_garbage(self, limit: int = 1000) -> int:
        """Free what nobody wants any more; until then it can still be stored somewhere."""
        unwanted = [0]
        while unwanted:
            unwanted = [c for c in {*self._records, *self._mine()[1]} if self._is_unwanted(c)]
            for c in unwanted:
                self._free(c)
        return 0

    def _is_unwanted(self, c: int) -> bool:
        try:
            record = self._read(c)
        except ContainerGone:
            return False
        named = any(c == each for _, each in self._mine()[2].values())
        return not (named or record.refs or record.owned or record.holds > 0)

    def _free(self, c: int) -> None:
        record = self._read(c)
        inner = [*record.claims.values()]
        if record.kind in MAPPINGS:
            inner += [value for _, value in record.data.values()]
        else:
            inner += record.data
        self._mine()[1][c] = None
        self._release(inner)

    def _load(self, encoded: bytes) -> Any:
        return decode_value(encoded, self.hooks)

    def _popped(self, encoded: bytes) -> Any:
        value = self._deep(encoded)
        self._release([encoded])
        return value

    def _deep(self, encoded: bytes) -> Any:
        return self.snapshot(link(encoded)[1]) if encoded[0] == CHILD else self._load(encoded)

    def snapshot(self, c: int) -> Any:
        raise NotImplementedError

    def _key(self, key: Any) -> tuple[bytes, bytes]:
        return encode_key(key, self.hooks)

    # --- Containers ---------------------------------------------------------------------------

    def _new(self, kind: int, aux: int = -1, info: bytes = b"", owned: bool = False) -> int:
        c = next(self._numbers)
        data: Any = {} if kind in MAPPINGS else []
        self._mine()[1][c] = Record(kind, aux, info, data, owned=owned)
        return c

    @writes
    def create(self, kind: int, aux: int = -1, info: bytes = b"", hold: bool = True) -> int:
        c = self._new(kind, aux, info)
        self._write(c).holds = int(hold)
        return c

    @writes
    def named(self, name: str, kind: int, aux: int = -1, info: bytes = b"") -> tuple[int, bool]:
        names = self._mine()[2]
        if name in names:
            if names[name][0] != kind:
                raise WrongKind(f"{name!r} is a {KIND_NAMES[names[name][0]]}")
            return names[name][1], False
        names[name] = (kind, self._new(kind, aux, info))
        return names[name][1], True

    def names(self) -> list[tuple[str, int, int]]:
        names = self._mine()[2] if self.in_transaction else self._names
        return [(name, kind, c) for name, (kind, c) in names.items()]

    @writes
    def remove_name(self, name: str) -> bool:
        found = self._mine()[2].pop(name, None)
        return found is not None

    def metadata(self, c: int) -> tuple[int, int, int, int, int, bytes]:
        record = self._read(c)
        return (
            record.kind,
            len(record.data),
            record.refs,
            record.aux,
            record.count,
            record.info,
        )

    @writes
    def acquire_ref(self, c: int) -> None:
        self._write(c).holds += 1

    @writes
    def release_ref(self, c: int) -> None:
        self._write(c).holds -= 1

    def length(self, c: int) -> int:
        return len(self._read(c).data)

    @writes
    def clear(self, c: int) -> None:
        record = self._write(c)
        mapping = record.kind in MAPPINGS
        removed = [value for _, value in record.data.values()] if mapping else list(record.data)
        record.data.clear()
        self._release(removed)

    @writes
    def counter_add(self, c: int, delta: int, floor: int | None = None) -> int:
        count = self._read(c).count + delta
        if floor is not None and count < floor:
            raise ValueError(f"the count would be {count}, below {floor}")
        self._write(c).count = count
        return count
