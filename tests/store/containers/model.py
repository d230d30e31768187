"""The backend's contract in plain Python: one process, any number of threads, nothing on disk.

The core is compared with it, and the containers are tested on it.
"""

from __future__ import annotations

from typing import Any, cast

from .model_base import writes
from .model_codec import decode_key, decode_value, encode_value
from .model_records import total
from .model_sequences import Sequences


class Optimistic:
    """What a store across a network has besides."""

    optimistic = True
    hooks: Any

    def encode(self, obj: Any) -> bytes:
        return encode_value(obj, self.hooks)

    def decode(self, encoded: bytes) -> Any:
        return decode_value(encoded, self.hooks)


class Model(Sequences):
    """See the contract for what each method does."""

    def dict_get(self, c: int, key: Any) -> Any:
        data = self._mapping(self._read(c))
        canonical, _ = self._key(key)
        if canonical not in data:
            raise KeyError(key)
        return self._load(data[canonical][1])

    def dict_get_or(self, c: int, key: Any, default: Any) -> Any:
        try:
            return self.dict_get(c, key)
        except KeyError:
            return default

    def dict_contains(self, c: int, key: Any) -> bool:
        return self._key(key)[0] in self._mapping(self._read(c))

    @writes
    def dict_set(self, c: int, key: Any, value: Any) -> None:
        self._put(c, *self._key(key), encode_value(value, self.hooks))

    def _put(self, c: int, canonical: bytes, original: bytes, encoded: bytes) -> None:
        old = self._mapping(self._read(c)).get(canonical)
        removed = [] if old is None else [old[1]]
        stored = self._adopt(encoded, removed)
        self._write(c).data[canonical] = (original if old is None else old[0], stored)
        self._release(removed)

    @writes
    def dict_delete(self, c: int, key: Any) -> None:
        self._release([self._take(c, key)])

    def _take(self, c: int, key: Any) -> bytes:
        canonical, _ = self._key(key)
        if canonical not in self._mapping(self._read(c)):
            raise KeyError(key)
        return cast("bytes", self._write(c).data.pop(canonical)[1])

    @writes
    def dict_setdefault(self, c: int, key: Any, value: Any) -> Any:
        if not self.dict_contains(c, key):
            self.dict_set(c, key, value)
        return self.dict_get(c, key)

    @writes
    def dict_pop(self, c: int, key: Any) -> Any:
        return self._popped(self._take(c, key))

    @writes
    def dict_popitem(self, c: int, last: bool = True) -> tuple[Any, Any]:
        data = self._mapping(self._write(c))
        if not data:
            raise KeyError("the container is empty")
        canonical = list(data)[-1 if last else 0]
        original, encoded = data.pop(canonical)
        return decode_key(canonical, original, self.hooks), self._popped(encoded)

    @writes
    def dict_update(self, c: int, pairs: dict[Any, Any] | list[tuple[Any, Any]]) -> None:
        pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
        encoded = [(*self._key(key), encode_value(value, self.hooks)) for key, value in pairs]
        for each in encoded:
            self._put(c, *each)

    def dict_get_many(self, c: int, keys: list[Any], missing: Any = None) -> list[Any]:
        return [self.dict_get_or(c, key, missing) for key in keys]

    def dict_entries(self, c: int, what: str) -> list[Any]:
        return list(self.scan(c, what))

    @writes
    def dict_add(self, c: int, key: Any, delta: Any, initial: Any = None) -> Any:
        found = self.dict_get_or(c, key, initial)
        if found is None:
            raise KeyError(key)
        new = total(found, delta)
        self.dict_set(c, key, new)
        return new

    @writes
    def dict_compare_and_set(
        self, c: int, key: Any, expected: bytes | None, value: bytes | None
    ) -> bool:
        if self.dict_encoded(c, key) != expected:
            return False
        if value is not None:
            self._put(c, *self._key(key), value)
        elif expected is not None:
            self.dict_delete(c, key)
        return True

    def dict_encoded_many(self, c: int, keys: list[Any]) -> list[bytes | None]:
        return [self.dict_encoded(c, key) for key in keys]

    def dict_encoded(self, c: int, key: Any) -> bytes | None:
        found = self._mapping(self._read(c)).get(self._key(key)[0])
        return None if found is None else found[1]

    @writes
    def set_add(self, c: int, key: Any) -> bool:
        canonical, original = self._key(key)
        if canonical in self._mapping(self._read(c)):
            return False
        self._write(c).data[canonical] = (original, b"\0")
        return True

    @writes
    def set_discard(self, c: int, key: Any) -> bool:
        canonical, _ = self._key(key)
        if canonical not in self._mapping(self._read(c)):
            return False
        del self._write(c).data[canonical]
        return True


class RemoteModel(Optimistic, Model):
    pass
