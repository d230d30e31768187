"""Containers on a Valkey or Redis server, against its client library used by hand.

By hand, values are pickled, a dict is a hash without an order, and a reply that is lost leaves open
whether the command was carried out. The server is on this machine's loopback.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import harness
import managers
from harness import BASELINE, SUBJECT, Goal, Metric, Unsupported, Values
from managers import NAMES

BY_HAND = "redis-py"
HOST = "127.0.0.1"
MANY = {name: number for number, name in enumerate(managers.keys(1_000))}


class Ours:
    """garrison's, and those of `multiprocessing.Manager` by the same calls."""

    def __init__(self, manager: Any) -> None:
        self.dict, self.list, self.queue = manager.dict(), manager.list(), manager.Queue()
        self.counts = manager.dict()
        self.lock = None if hasattr(self.counts, "add") else manager.Lock()

    def get(self, key: str) -> Any:
        return self.dict[key]

    def set(self, key: str, value: Any) -> None:
        self.dict[key] = value

    def update(self, pairs: dict[str, Any]) -> None:
        self.dict.update(pairs)

    def items(self) -> list[Any]:
        return list(self.dict.items())

    def append(self, value: Any) -> None:
        self.list.append(value)

    def put_and_get(self, value: Any) -> Any:
        self.queue.put(value)
        return self.queue.get()

    def add(self, key: str) -> None:
        if self.lock is None:
            self.counts.add(key, 1, 0)
            return
        with self.lock:
            self.counts[key] = self.counts.get(key, 0) + 1


class ByHand:
    """The client library, with what its users write around it."""

    def __init__(self, port: int) -> None:
        self.client = _library().Redis(host=HOST, port=port)

    def get(self, key: str) -> Any:
        return pickle.loads(self.client.hget("dict", key))

    def set(self, key: str, value: Any) -> None:
        self.client.hset("dict", key, pickle.dumps(value))

    def update(self, pairs: dict[str, Any]) -> None:
        self.client.hset("dict", mapping={key: pickle.dumps(pairs[key]) for key in pairs})

    def items(self) -> list[Any]:
        found = self.client.hgetall("dict")
        return [(key.decode(), pickle.loads(value)) for key, value in found.items()]

    def append(self, value: Any) -> None:
        self.client.rpush("list", pickle.dumps(value))

    def put_and_get(self, value: Any) -> Any:
        self.client.rpush("queue", pickle.dumps(value))
        return pickle.loads(self.client.lpop("queue"))

    def add(self, key: str) -> None:
        self.client.hincrby("counts", key, 1)


def _library() -> Any:
    try:
        import redis
    except ImportError:
        try:
            import valkey
        except ImportError:
            raise Unsupported("neither redis nor valkey is installed (pip)") from None
        valkey.Redis = valkey.Valkey
        return valkey
    return redis


@contextlib.contextmanager
def server() -> Iterator[int]:
    """A server of this turn's own, kept nowhere; its port."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise Unsupported("no server is installed (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    settings = ["--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([program, *settings], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield port
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((HOST, port)):
            return
        time.sleep(0.02)


@contextlib.contextmanager
def opened(peer: str) -> Iterator[Any]:
    """The containers of a peer."""
    if peer == BASELINE:
        with multiprocessing.Manager() as standard:
            yield Ours(standard)
        return
    _library()
    with server() as port:
        if peer == BY_HAND:
            yield ByHand(port)
            return
        import garrison

        with garrison.Manager(f"valkey://{HOST}:{port}/0") as manager:
            yield Ours(manager)


def turn(peer: str, quick: bool) -> Values:
    times = 400 if quick else 3_000
    with opened(peer) as shared:
        shared.update(MANY)

        def repeated(work: Callable[[int], object]) -> Callable[[int], None]:
            def run(count: int) -> None:
                for number in range(count):
                    work(number)

            return run

        one: dict[str, Callable[[int], object]] = {
            "get": lambda n: shared.get(NAMES[n % 1000]),
            "set": lambda n: shared.set(NAMES[n % 1000], n),
            "append": shared.append,
            "put, get": shared.put_and_get,
            "add": lambda n: shared.add(NAMES[n % 1000]),
        }
        values = {name: managers.microseconds(repeated(each), times) for name, each in one.items()}
        some = max(times // 100, 5)
        all_of_them = {
            "update 1,000": lambda _: shared.update(MANY),
            "items": lambda _: shared.items(),
        }
        for name, each in all_of_them.items():
            values[name] = managers.microseconds(repeated(each), some) / len(MANY)
        return values


def metric(name: str) -> Metric:
    return Metric(name, "us", "lower", Goal("times", 0.8, BY_HAND), Goal("times", 2))


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="valkey_containers",
            claim="containers on a Valkey or Redis server, one process",
            metrics=tuple(
                map(metric, ("get", "set", "append", "put, get", "add", "update 1,000", "items"))
            ),
            turn=turn,
            peers=(SUBJECT, BY_HAND, BASELINE),
            rounds=3,
            note="update and items: for each of 1,000 entries; what is reached is said of redis-py",
        )
    )
