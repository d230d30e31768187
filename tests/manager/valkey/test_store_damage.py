"""Keys that no garrison has written: an error of garrison's, never a crash or a hang."""

from __future__ import annotations

import queue
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from garrison.errors import GarrisonError, StoreCorrupt, StoreVersion
from garrison.store import Kind
from valkey_server import ValkeyServer

from .store_audit import PREFIX, new_store

ALLOWED = (GarrisonError, LookupError, queue.Empty, queue.Full)
"""What a damaged store may raise: the plain types' errors if an entry is missing."""


def fill(store: Any) -> None:
    shared = store.make(Kind.LIST, [1, "x"], name="list")
    contents = {"a": 1, "b": {"c": [1, {2}]}, True: 2.5, "k" * 500: b"x" * 50, (1, "t"): None}
    store.make(Kind.DICT, {**contents, "shared": shared}, name="dict")
    store.make(Kind.SET, {1, "a", (2, 3)}, name="set")
    store.make(Kind.DEQUE, [[1], 2], 5, name="deque")
    store.make(Kind.COUNTER, "aab", name="counter")
    jobs = store.make(Kind.QUEUE, name="queue")
    jobs.put_many([1, [2], 3])
    jobs._backend.claim_first(jobs._container_id)


def uses(store: Any) -> Iterator[Callable[[], object]]:
    """Yield reads, then writes, of all that there is."""

    def opened(kind: int, name: str) -> Any:
        return store.make(kind, name=name)

    kinds = [(Kind.DICT, "dict"), (Kind.LIST, "list"), (Kind.SET, "set"), (Kind.DEQUE, "deque")]
    kinds += [(Kind.COUNTER, "counter"), (Kind.QUEUE, "queue")]
    for each in kinds:
        for read in (len, list, str, lambda c: c._backend.snapshot(c._container_id)):
            if each[0] != Kind.QUEUE or read not in {len, list}:
                yield lambda each=each, read=read: read(opened(*each))  # type: ignore[misc]
    yield lambda: opened(Kind.DICT, "dict")["b"]["c"][1]
    yield lambda: opened(Kind.DICT, "dict").items()
    yield lambda: opened(Kind.DICT, "dict").__setitem__("new", {"x": [1]})
    yield lambda: opened(Kind.DICT, "dict").add("a")
    yield lambda: opened(Kind.DICT, "dict").pop("b")
    yield lambda: opened(Kind.DICT, "dict").popitem()
    yield lambda: opened(Kind.LIST, "list").append([1])
    yield lambda: opened(Kind.LIST, "list").reverse()
    yield lambda: opened(Kind.LIST, "list").pop(0)
    yield lambda: opened(Kind.SET, "set").update(["a", "new"])
    yield lambda: opened(Kind.SET, "set").pop()
    yield lambda: opened(Kind.DEQUE, "deque").extend([[1], 2, 3, 4, 5, 6])
    yield lambda: opened(Kind.COUNTER, "counter").update("abc")
    yield lambda: opened(Kind.QUEUE, "queue").get(block=False)
    yield lambda: opened(Kind.QUEUE, "queue").put(5, block=False)
    yield lambda: opened(Kind.QUEUE, "queue").task_done()
    yield store.backend.names
    yield store.backend.renew
    yield store.backend.collect_garbage
    yield lambda: opened(Kind.DICT, "dict").clear()


def use_all(server: ValkeyServer) -> list[type[Exception]]:
    """Use a store as a client does that comes now; return what that has raised."""
    raised: list[type[Exception]] = []
    try:
        store = new_store(server)
    except (StoreCorrupt, StoreVersion) as error:
        return [type(error)]
    try:
        for use in uses(store):
            try:
                use()
            except ALLOWED as error:
                raised.append(type(error))
    finally:
        store.link.close()
    return raised


class Damage:
    """Ways to damage one key."""

    def __init__(self, server: ValkeyServer, key: bytes, chance: random.Random) -> None:
        self.server, self.key, self.chance = server, key, chance
        self.type = server.command("TYPE", key)

    def ways(self) -> Iterator[Callable[[], object]]:
        yield lambda: self.server.command("DEL", self.key)
        other = ("SET", self.key, "x") if self.type != "string" else ("RPUSH", self.key, "x")
        yield lambda: (self.server.command("DEL", self.key), self.server.command(*other))
        change = getattr(self, f"change_{self.type}", None)
        if change is not None:
            for how in (self.flip, self.flip, self.flip, self.cut, lambda _: b"", self.grow):
                yield lambda how=how: change(how)  # type: ignore[misc]

    def flip(self, data: bytes) -> bytes:
        if not data:
            return b"\xff"
        place = self.chance.randrange(len(data))
        flipped = data[place] ^ (1 << self.chance.randrange(8))
        return data[:place] + bytes([flipped]) + data[place + 1 :]

    def cut(self, data: bytes) -> bytes:
        return data[: self.chance.randrange(len(data) + 1)]

    def grow(self, data: bytes) -> bytes:
        return data + b"\x12\x00"

    def change_hash(self, how: Callable[[bytes], bytes]) -> None:
        field = self.chance.choice(self.server.command("HKEYS", self.key))
        value = self.server.command("HGET", self.key, field)
        if self.chance.random() < 0.3:
            self.server.command("HDEL", self.key, field)
            self.server.command("HSET", self.key, how(field), value)
        else:
            self.server.command("HSET", self.key, field, how(value))

    def change_list(self, how: Callable[[bytes], bytes]) -> None:
        place = self.chance.randrange(self.server.command("LLEN", self.key))
        value = self.server.command("LINDEX", self.key, place)
        self.server.command("LSET", self.key, place, how(value))

    def change_zset(self, how: Callable[[bytes], bytes]) -> None:
        member, score = self.server.command("ZRANGE", self.key, 0, 0, "WITHSCORES")
        self.server.command("ZREM", self.key, member)
        self.server.command("ZADD", self.key, score, how(member))

    def change_string(self, how: Callable[[bytes], bytes]) -> None:
        self.server.command("SET", self.key, how(self.server.command("GET", self.key)))


@pytest.mark.watchdog(300)
def test_damaged_keys_raise_errors_of_garrisons(server: ValkeyServer) -> None:
    chance = random.Random(12)
    store = new_store(server)
    fill(store)
    assert use_all(server) == []
    fill_again(server)
    saved = {key: server.command("DUMP", key) for key in server.command("KEYS", PREFIX + b"*")}
    outcomes: list[type[Exception]] = []
    problems: list[str] = []
    for key in sorted(saved):
        for damage in Damage(server, key, chance).ways():
            restore(server, saved)
            damage()
            outcomes += use_all(server)
    assert not problems, "\n".join(problems[:8])
    assert StoreCorrupt in outcomes
    store.link.close()


def fill_again(server: ValkeyServer) -> None:
    server.command("FLUSHALL")
    store = new_store(server)
    fill(store)
    store.link.close()


def restore(server: ValkeyServer, saved: dict[bytes, bytes]) -> None:
    server.command("FLUSHALL")
    for key, data in saved.items():
        server.command("RESTORE", key, 0, data)


def test_other_format_is_refused(server: ValkeyServer) -> None:
    new_store(server).link.close()
    server.command("HSET", PREFIX + b"meta", "format", "7")
    with pytest.raises(StoreVersion, match=r"format '7'.*\?prefix=NAME"):
        new_store(server)
    server.command("HSET", PREFIX + b"meta", "format", "1")
    server.command("HDEL", PREFIX + b"meta", "uuid")
    with pytest.raises(StoreCorrupt, match="no id"):
        new_store(server)
