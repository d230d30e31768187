"""Clients in processes of their own, which are killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from garrison.store import Kind, transaction
from valkey_server import ValkeyServer

from .store_audit import new_store

OPTIONS = "lease=0.4"


class Client:
    """A forked process that works on a store of its own, and reports each step that is done.

    Parameters
    ----------
    server
        The server.
    work
        Called with the store and a function to report a line with.
    """

    def __init__(
        self, server: ValkeyServer, work: Callable[[Any, Callable[[str], None]], None]
    ) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            status = 1
            try:
                work(new_store(server, OPTIONS), lambda line: report(write, line))
                status = 0
            finally:
                os._exit(status)
        os.close(write)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end; return the exit code and what it has reported."""
        with os.fdopen(self._read, "rb") as told:
            lines = told.read().decode().splitlines()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), lines


def report(write: int, line: str) -> None:
    os.write(write, f"{line}\n".encode())


class Job:
    """What a client of a storm does until it is killed: small steps on shared containers."""

    def __init__(self, store: Any, name: str, seed: int) -> None:
        self.store, self.name, self.chance = store, name, random.Random(seed)
        self.appended = store.make(Kind.LIST, name="appended")
        self.counter = store.make(Kind.COUNTER, name="counter")
        self.tree = store.make(Kind.DICT, name="tree")
        self.waiting = store.make(Kind.QUEUE, name="waiting")
        self.done = store.make(Kind.LIST, name="done")
        self.claimed = store.make(Kind.QUEUE, name="claimed")
        self.seen = store.make(Kind.LIST, name="seen")
        self.held: list[Any] = []

    def run(self, tell: Callable[[str], None]) -> None:
        steps = [
            self.append,
            self.count,
            self.nest,
            self.move,
            self.claim,
            self.hold,
            self.transfer,
        ]
        for n in range(1_000_000):
            self.chance.choice(steps)(n, tell)

    def append(self, n: int, tell: Callable[[str], None]) -> None:
        self.appended.append(f"{self.name} {n}")
        tell(f"append {self.name} {n}")

    def count(self, n: int, tell: Callable[[str], None]) -> None:
        self.counter.add(self.name)
        tell(f"count {n}")

    def nest(self, n: int, _: Callable[[str], None]) -> None:
        mine = self.tree.setdefault(self.name, {"children": [], "n": 0})
        changes: list[Callable[[], object]] = [
            lambda: mine["children"].append({"n": n, "deep": [[n]]}),
            lambda: mine.__setitem__("children", []),
            lambda: mine.__setitem__("n", n),
            lambda: self.tree.pop(self.name),
            lambda: mine.__setitem__("shared", self.chance.choice(self.held or [n])),
        ]
        self.chance.choice(changes)()

    def move(self, _n: int, tell: Callable[[str], None]) -> None:
        """Move an item in a transaction: it is done once."""
        with transaction(self.store.backend):
            if self.waiting.empty():
                return
            item = self.waiting.get(block=False)
            self.done.append(item)
        tell(f"done {item}")

    def transfer(self, n: int, _: Callable[[str], None]) -> None:
        """Leave the sum of two numbers as it is."""
        with transaction(self.store.backend):
            self.counter.add("left", -n)
            self.counter.add("right", n)

    def claim(self, _n: int, _: Callable[[str], None]) -> None:
        if not self.claimed.empty():
            with self.claimed.claim(timeout=5) as item:
                self.seen.append(item)

    def hold(self, n: int, _: Callable[[str], None]) -> None:
        self.held.append(self.store.make(Kind.LIST, [n, {"inner": n}]))
        del self.held[:-5]


def storm_job(name: str, seed: int) -> Callable[[Any, Callable[[str], None]], None]:
    def work(store: Any, tell: Callable[[str], None]) -> None:
        Job(store, name, seed).run(tell)

    return work


def killed_after(seconds: float, client: Client) -> tuple[int, list[str]]:
    time.sleep(seconds)
    client.kill()
    return client.end()
