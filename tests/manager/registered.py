"""Classes that the tests register, and what their processes do; importable by spawned ones."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from garrison.manager import BaseManager, BaseProxy


class Tally:
    """Counts, and knows what was done to it."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self, number: int = 1) -> int:
        self.count += number
        return self.count

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def fail_oddly(self) -> None:
        raise Odd(1, 2)

    def give(self, value: Any) -> Any:
        return value

    def lock(self) -> threading.Lock:
        return threading.Lock()

    def thread(self) -> int:
        return threading.get_ident()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def child(self) -> Tally:
        return Tally(100)

    def _hidden(self) -> int:
        return 1


class Odd(Exception):
    """Cannot be rebuilt from its pickle."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first)


class Shelf:
    """Holds whatever it is given."""

    def __init__(self) -> None:
        self.things: dict[str, Any] = {}

    def put(self, name: str, thing: Any) -> None:
        self.things[name] = thing

    def get(self, name: str) -> Any:
        return self.things[name]

    def clear(self) -> None:
        self.things.clear()


class Gate:
    """Blocks until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> bool:
        return self._open.wait(20)


class CounterProxy(BaseProxy):
    _exposed_ = ("__next__",)

    def __iter__(self) -> CounterProxy:
        return self

    def __next__(self) -> Any:
        return self._callmethod("__next__")


def numbers() -> Any:
    yield from range(5)


class Manager(BaseManager):
    Tally: Any
    the_tally: Any


_singleton = Tally(1000)


def the_tally() -> Tally:
    return _singleton


Manager.register("Tally", Tally, method_to_typeid={"child": "Child"})
Manager.register("Child", method_to_typeid={"child": "Child"}, create_method=False)
Manager.register("Shelf", Shelf)
Manager.register("Gate", Gate)
Manager.register("numbers", numbers, CounterProxy)
Manager.register("the_tally", the_tally)


class Client(BaseManager):
    """Knows the names only."""


Client.register("the_tally")


def add_to(tally: Any, times: int) -> None:
    for _ in range(times):
        tally.add(1)


def iterate(iterator: Any, results: Any) -> None:
    results.put(list(iterator))


def take_and_add(tallies: Any, done: Any) -> None:
    tally = tallies.get()
    done.put(tally.add(7))


def visit(address: Any, key: bytes) -> None:
    client: Any = Client(address, key)
    client.connect()
    client.the_tally().add(5)


def own_a_manager(told: Any) -> None:
    """Start a manager, tell where it is, and wait to be killed."""
    manager: Any = Manager()
    manager.start()
    tally = manager.Tally()
    tally.add()
    told.put(manager._process.pid)
    signal.pause()
