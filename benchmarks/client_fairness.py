"""How long an honest client of a server waits while another one misbehaves: the 99th percentile."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import harness
from harness import SUBJECT, Goal, Metric, Values

KEY = b"garrison-a-key-for-benchmarks-not-for-you-0123456789"
LENGTH = 50_000
INSERTS = 60
PART = 1 << 20
MORE = 0x80
WARM_UP_S = 0.5

Address = tuple[str, int]
Attack = Callable[[Address], None]


class Thing:
    """What a client has made by threads of the server."""


class Attacker:
    """A client by hand: it has the key, and says what it likes."""

    def __init__(self, address: Address) -> None:
        from garrison.net import Limits
        from garrison.net._handshake import ClientHandshake

        self.socket = socket.create_connection(address)
        self.channel = ClientHandshake(KEY, Limits(max_values=1 << 30))
        self.socket.sendall(self.channel.take())
        while not self.channel.established:
            self.channel.receive(self.socket.recv(4096))
        self.socket.sendall(self.channel.take())

    def say(self, number: int, verb: int, *fields: Any) -> None:
        self.channel.put(number, verb, fields)
        while data := self.channel.take():
            self.socket.sendall(data)

    def hear(self, last: int) -> None:
        """Read until the reply with this number."""
        while data := self.socket.recv(1 << 16):
            if any(number == last for number, _, _ in self.channel.receive(data)):
                return


def pipelined_inserts(address: Address) -> None:
    """Insert into the middle of a long list, sixty times in a row."""
    client = _connect(address)
    many = client.list("many")
    while True:
        with client.pipeline() as pipeline:
            late = pipeline(many)
            for _ in range(INSERTS):
                late.insert(LENGTH // 2, 0)


def endless_transaction(address: Address) -> None:
    """Keep a transaction alive by reads, as long as the server allows."""
    from garrison.errors import TransactionFailed

    client = _connect(address)
    stock = client.dict("others")
    while True:
        with contextlib.suppress(TransactionFailed), client.transaction():
            stock["mine"] = 1
            while True:
                stock.get("mine")


def unfinished_messages(address: Address) -> None:
    """Begin messages of 64 MiB and finish none."""
    begun = struct.pack(">IIB", PART, 1, 1 | MORE) + bytes(PART)
    while True:
        attacker = Attacker(address)
        for _ in range(64):
            attacker.socket.sendall(attacker.channel.secure_channel.seal(begun))
        attacker.socket.close()


def made_up_threads(address: Address) -> None:
    """Call from three thousand threads that do not exist."""
    from garrison.net import Verb

    payload = pickle.dumps(((), {}))
    attacker = Attacker(address)
    while True:
        for thread in range(1, 3001):
            attacker.say(thread, Verb.CREATE, "Thing", payload, thread)
        attacker.hear(3000)


def many_integers(address: Address) -> None:
    """Send sixty million small numbers in messages of a million."""
    from garrison.net import Verb

    numbers = [0] * 1_000_000
    while True:
        with contextlib.suppress(OSError):
            attacker = Attacker(address)
            for number in range(1, 61):
                attacker.say(number, Verb.STORE, numbers)


def inherited_socket(address: Address) -> None:
    """Hang up while a forked child has the socket still open."""
    while True:
        attacker = Attacker(address)
        child = os.fork()
        if child == 0:
            signal.pause()
        attacker.socket.close()
        time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def bad_requests(address: Address) -> None:
    """Ask two thousand times for what does not exist."""
    from garrison.net import Verb

    attacker = Attacker(address)
    while True:
        for number in range(1, 2001):
            attacker.say(number, Verb.STORE, "no such operation")
        attacker.hear(2000)


ATTACKS: dict[str, Attack] = {
    "pipelined inserts": pipelined_inserts,
    "a transaction": endless_transaction,
    "unfinished messages": unfinished_messages,
    "made-up threads": made_up_threads,
    "many integers": many_integers,
    "an inherited socket": inherited_socket,
    "bad requests": bad_requests,
}
READS_ONLY = {endless_transaction}
"""A transaction blocks all other writers, for `Limits.max_transaction_s` at most."""


def _connect(address: Address) -> Any:
    import garrison

    return garrison.connect(address, KEY, direct=False)


@contextlib.contextmanager
def serving() -> Iterator[Address]:
    from garrison.managers import SyncManager

    class Served(SyncManager):
        """A server with a registered type."""

    Served.register("Thing", Thing)
    made: Any = Served(("127.0.0.1", 0), KEY)
    with made as manager:
        manager.list("many").extend([0] * LENGTH)
        manager.dict("stock")["apples"] = 1
        yield manager.address


@contextlib.contextmanager
def attacked(attack: Attack, address: Address) -> Iterator[None]:
    """Attack from a process of its own."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        with contextlib.suppress(BaseException):
            attack(address)
        os._exit(1)
    try:
        time.sleep(WARM_UP_S)
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended:
            message = f"the attack {attack.__name__} has ended"
            raise RuntimeError(message)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def latencies(address: Address, seconds: float, *, writes: bool) -> list[float]:
    """Milliseconds of an honest client's operations within so many seconds, sorted."""
    stock = _connect(address).dict("stock")
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        number = len(spent)
        if writes and number % 2:
            stock["apples"] = number
        else:
            stock.get("apples")
        spent.append((time.perf_counter() - start) * 1e3)
        time.sleep(0.001)
    return sorted(spent)


def turn(_peer: str, quick: bool) -> Values:
    seconds = 2.0 if quick else 10.0
    values: Values = {}
    for name, attack in ATTACKS.items():
        with serving() as address, attacked(attack, address):
            spent = latencies(address, seconds, writes=attack not in READS_ONLY)
        values[f"{name}, p50"] = spent[len(spent) // 2]
        values[f"{name}, p99"] = spent[len(spent) * 99 // 100]
    return values


def metrics() -> tuple[Metric, ...]:
    found = []
    for name in ATTACKS:
        found.append(Metric(f"{name}, p50", "ms", "lower"))
        found.append(Metric(f"{name}, p99", "ms", "lower", Goal("at most", 50)))
    return tuple(found)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="client_fairness",
            claim="an honest client waits at most 50 ms, whatever another one does",
            metrics=metrics(),
            turn=turn,
            peers=(SUBJECT,),
            rounds=3,
        )
    )
