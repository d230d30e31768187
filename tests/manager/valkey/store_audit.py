"""Checks a store on a server from outside: all that its keys say of each other must agree."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from valkey_server import ValkeyServer

PREFIX = b"{garrison}:s:"
CHILD, REF = 16, 17
MAPPINGS, SET = {1, 5, 10}, 3


class Audit:
    """The keys of a store, read at one moment when nobody writes."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        keys = server.command("KEYS", "{garrison}:s:*")
        self.names = sorted(key.removeprefix(PREFIX) for key in keys)
        self.problems: list[str] = []
        self.heads = {n: self.hash(b"h:%d" % n) for n in self.numbers("h")}

    def hash(self, name: bytes) -> dict[bytes, bytes]:
        flat = self._server.command("HGETALL", PREFIX + name)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def numbers(self, kind: str) -> list[int]:
        begin = f"{kind}:".encode()
        return [int(each[len(begin) :]) for each in self.names if each.startswith(begin)]

    def dump(self) -> dict[bytes, Any]:
        """Return all that a transaction may change."""
        skipped = (b"meta", b"own", b"rep:", b"gc", b"w:", b"wake:", b"or:")
        return {each: self.read(each) for each in self.names if not each.startswith(skipped)}

    def read(self, name: bytes) -> Any:
        if name[:2] == b"q:":
            return self._server.command("LRANGE", PREFIX + name, 0, -1)
        if name[:2] == b"o:":
            return self._server.command("ZRANGE", PREFIX + name, 0, -1, "WITHSCORES")
        if name[:2] in {b"h:", b"i:", b"k:", b"c:"} or name[:3] == b"cl:" or name == b"names":
            found = self.hash(name)
            # References of owners, and waiters, are no part of a transaction.
            return {k: v for k, v in found.items() if name[:2] != b"h:" or k not in {b"R", b"w"}}
        return self._server.command("DUMP", PREFIX + name)

    def values(self, number: int, kind: int) -> list[bytes]:
        if kind in MAPPINGS:
            return list(self.hash(b"i:%d" % number).values())
        if kind == SET:
            return []
        found: list[bytes] = self._server.command("LRANGE", PREFIX + b"q:%d" % number, 0, -1)
        claims = self.hash(b"c:%d" % number).values()
        return found + [each.split(b" ", 1)[1] for each in claims]

    def check(self) -> list[str]:
        """Return what does not agree."""
        children: Counter[int] = Counter()
        references: Counter[int] = Counter()
        for number, head in self.heads.items():
            if b"k" in head:
                self._check_container(number, head, children, references)
        owned: Counter[int] = Counter()
        for owner in self.numbers("or"):
            for held, count in self.hash(b"or:%d" % owner).items():
                owned[int(held)] += int(count)
        named = {int(each.split()[1]) for each in self.hash(b"names").values()}
        garbage = set(map(int, self._server.command("ZRANGE", PREFIX + b"gc", 0, -1)))
        for number, head in self.heads.items():
            if b"k" not in head:
                continue
            self._same(number, "owned", int(b"o" in head), children[number])
            self._same(number, "references", int(head.get(b"r", 0)), references[number])
            self._same(number, "owners", int(head.get(b"R", 0)), owned[number])
            self._same(number, "named", int(b"n" in head), int(number in named))
            kept = children[number] + references[number] + owned[number] + (number in named)
            if not kept and number not in garbage:
                self.problems.append(f"container {number}: nothing keeps it, and it is no garbage")
        for number in {*children, *references, *named}:
            if b"k" not in self.heads.get(number, {}):
                self.problems.append(f"container {number} is missing")
        return self.problems

    def _check_container(
        self, number: int, head: dict[bytes, bytes], children: Counter[int], refs: Counter[int]
    ) -> None:
        kind = int(head[b"k"])
        links = 0
        for value in self.values(number, kind):
            if value[0] in {CHILD, REF}:
                links += 1
                (target,) = struct.unpack_from("<Q", value, 2)
                (children if value[0] == CHILD else refs)[target] += 1
        self._same(number, "links", int(head.get(b"L", 0)), links)
        if kind in MAPPINGS or kind == SET:
            order = self._server.command("ZRANGE", PREFIX + b"o:%d" % number, 0, -1)
            originals = set(self.hash(b"k:%d" % number))
            if originals - set(order):
                self.problems.append(f"container {number}: an original without its key")
            if kind != SET and set(order) != set(self.hash(b"i:%d" % number)):
                self.problems.append(f"container {number}: order and items are not the same keys")

    def _same(self, number: int, what: str, found: int, counted: int) -> None:
        if found != counted:
            self.problems.append(f"container {number}: {what} {found}, counted {counted}")


def audit(server: ValkeyServer) -> list[str]:
    return Audit(server).check()


def dump(server: ValkeyServer) -> dict[bytes, Any]:
    return Audit(server).dump()


def new_store(server: ValkeyServer, options: str = "") -> Any:
    """Return the store as another process has it: over connections of its own."""
    from garrison.manager.valkey._connection import Link
    from garrison.manager.valkey._store import ValkeyStore
    from garrison.manager.valkey._url import parse_url

    return ValkeyStore(Link(parse_url(server.url(options))))
