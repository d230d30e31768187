"""The server's event loop against asyncio, plain and with uvloop: the same bytes, the same client.

The server of each peer authenticates, decrypts and parses with the same code, and replies with the
fields of the request. So the figures show what the loop alone costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import multiprocessing
import socket
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from typing import Any

import harness
import managers
from garrison.errors import ChannelError
from garrison.net import Connection, EventLoop, Limits, ServerKeys
from garrison.net._handshake import DONE, HELLO, ServerHandshake
from harness import SUBJECT, Goal, Metric, Unsupported, Values
from manager_idle import looked_at

KEY = b"a key of more than thirty-two bytes, for a benchmark"
ECHO = 1
LIMITS = Limits()


class Echo:
    """Replies to each request with its own fields: a request handler of garrison's loop."""

    def request(self, session: Any, rid: int, verb: int, args: list[Any]) -> None:
        session.reply(rid, *args)

    def ignore(self, *_: Any) -> None:
        pass

    opened = cancelled = closed = stopping = batch_begin = batch_end = ignore


class Peer(asyncio.Protocol):
    """The same service for asyncio, with the same bound on unauthenticated connections."""

    unauthenticated: dict[Peer, None] = {}  # noqa: RUF012 - one server in each process

    def __init__(self) -> None:
        self.handshake = ServerHandshake(ServerKeys(KEY), LIMITS)
        self.secure_channel: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        waiting = self.unauthenticated
        waiting[self] = None
        self.timer = asyncio.get_running_loop().call_later(
            LIMITS.authentication_timeout_s, transport.abort
        )
        if len(waiting) > LIMITS.max_unauthenticated:
            next(iter(waiting)).drop()

    def drop(self) -> None:
        self.timer.cancel()
        self.unauthenticated.pop(self, None)
        self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self.timer.cancel()
        self.unauthenticated.pop(self, None)

    def data_received(self, data: bytes) -> None:
        try:
            messages = (
                self.secure_channel.feed(data) if self.secure_channel else self.authenticate(data)
            )
        except (ChannelError, AuthenticationError):
            self.drop()
            return
        for rid, verb, fields in messages:
            if rid and verb < HELLO:
                self.secure_channel.put(rid, DONE, fields)
        if self.secure_channel and (reply := self.secure_channel.take()):
            self.transport.write(reply)

    def authenticate(self, data: bytes) -> list[Any]:
        messages = self.handshake.receive(data)
        if self.handshake.outgoing:
            self.transport.write(self.handshake.take())
        if self.handshake.established:
            self.secure_channel = self.handshake.secure_channel
            self.timer.cancel()
            del self.unauthenticated[self]
        return messages


def serve(peer: str, sock: socket.socket) -> None:
    """Serve until killed."""
    if peer == SUBJECT:
        loop = EventLoop(Echo(), KEY, LIMITS)
        loop.add_listener(sock)
        loop.run()
        return
    if peer == "uvloop":
        importlib.import_module("uvloop").install()

    async def main() -> None:
        # As many are accepted before anything is read: with more, a client that authenticates at
        # once would be dropped for newer connections.
        server = await asyncio.get_running_loop().create_server(Peer, sock=sock, backlog=128)
        await server.start_serving()
        sock.listen(4096)
        await asyncio.Event().wait()

    asyncio.run(main())


@contextlib.contextmanager
def served(peer: str) -> Iterator[tuple[Any, int]]:
    """Run a server in a process of its own; yield its address and process number."""
    if peer == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise Unsupported("uvloop is not installed")
    sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    process = multiprocessing.get_context("fork").Process(target=serve, args=(peer, sock))
    process.start()
    address = sock.getsockname()
    sock.close()
    try:
        yield address, process.pid or 0
    finally:
        process.kill()
        process.join()


def turn(peer: str, quick: bool) -> Values:
    """Measure one server."""
    times = 1_000 if quick else 10_000
    values: Values = {}
    with served(peer) as (address, _):
        connection = Connection(address, KEY)

        def ask(count: int) -> None:
            for number in range(count):
                connection.ask(ECHO, number, b"x" * 40)

        values["round trip"] = managers.microseconds(ask, times)
        values["16 clients"] = managers.together(16, ask, times // 5)
        values["pipelined"] = 1e6 / managers.microseconds(lambda n: pipeline(connection, n), times)
    with served(peer) as (address, pid):
        clients = [Connection(address, KEY) for _ in range(100 if quick else 1_000)]
        for client in clients:
            client.ask(ECHO)
        values["idle memory"] = looked_at(pid)["memory"]
    with served(peer) as (address, _):
        values["silent"] = among_silent(address, 1_000 if quick else 10_000)
    return values


def pipeline(connection: Connection, count: int) -> None:
    """Send requests 500 at a time."""
    for begin in range(0, count, 500):
        with connection.batch() as batch:
            replies = [batch.ask(ECHO, begin, b"x" * 40) for _ in range(500)]
        for reply in replies:
            reply.get()


def among_silent(address: Any, count: int) -> float:
    """Return the seconds until a client is served, behind so many connections that say nothing."""
    silent = []
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
        silent.append(sock)
    start = time.perf_counter()
    with Connection(address, KEY, timeout=60) as connection:
        connection.ask(ECHO)
    took = time.perf_counter() - start
    for sock in silent:
        sock.close()
    return took


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="event_loop",
            claim="the server's own event loop against asyncio",
            metrics=(
                Metric("round trip", "us", "lower", Goal("best peer")),
                Metric("16 clients", "1/s", "higher", Goal("best peer")),
                Metric("pipelined", "1/s", "higher", Goal("best peer")),
                Metric("silent", "s", "lower"),
                Metric("idle memory", "MB", "lower", Goal("best peer")),
            ),
            turn=turn,
            peers=(SUBJECT, "asyncio", "uvloop"),
            rounds=3,
        )
    )
