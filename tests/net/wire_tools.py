"""A service that does little, served in a thread or a process, and peers that behave badly."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from garrison.net._address import Address
from garrison.net._connection import Connection
from garrison.net._event_loop import EventLoop
from garrison.net._handshake import ClientHandshake
from garrison.net._limits import Limits
from garrison.net._session import Session

KEY = b"garrison-a-key-for-tests-that-needs-no-salt-at-all-0"
"""As `generate_key` makes them: it needs no salt."""
SHORT_KEY = b"abracadabra"
ECHO, LATER, RELEASE, FAIL, RAISE, BIG, COUNT, MUTE, PID = range(1, 10)
PATIENCE = 20.0


class Service:
    """Echoes, counts, keeps replies back, fails."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.gone: list[Session] = []
        self.cancels: list[int] = []
        self.kept: list[tuple[Session, int]] = []
        self.batches: list[int] = []
        self.count = 0
        self.wrong_batches = 0
        self._depth = self._size = 0
        self.news = threading.Condition()

    def opened(self, session: Session) -> None:
        self._note(self.sessions, session)

    def closed(self, session: Session) -> None:
        self._note(self.gone, session)

    def cancelled(self, session: Session, rid: int) -> None:
        self._note(self.cancels, rid)

    def stopping(self) -> None:
        pass

    def batch_begin(self, session: Session) -> None:
        self.wrong_batches += self._depth != 0
        self._depth = 1
        self._size = 0

    def batch_end(self, session: Session) -> None:
        self.wrong_batches += self._depth != 1
        self._depth = 0
        self.batches.append(self._size)

    def request(self, session: Session, rid: int, verb: int, args: list[Any]) -> None:
        self._size += 1
        if verb == ECHO:
            session.reply(rid, *args)
        elif verb == COUNT:
            self.count += 1
            session.reply(rid, self.count)
        elif verb == LATER:
            self._note(self.kept, (session, rid))
        elif verb == RELEASE:
            for other, number in self.kept:
                other.reply(number, "late")
            self.kept.clear()
            session.reply(rid)
        elif verb == BIG:
            session.reply(rid, bytes(args[0]))
        elif verb == PID:
            session.reply(rid, os.getpid())
        elif verb == FAIL:
            session.fail(rid, "KeyError", "no such thing", b"more")
        elif verb == RAISE:
            raise ValueError("the service is at a loss")

    def _note(self, where: list[Any], what: Any) -> None:
        with self.news:
            where.append(what)
            self.news.notify_all()

    def wait_until(self, true: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(true, PATIENCE)


class Serving:
    """A loop in a thread of this process."""

    def __init__(self, service: Any, address: Any, key: bytes, limits: Limits | None) -> None:
        self.service = service
        self.key = key
        self.loop = EventLoop(service, key, limits)
        try:
            self.address: Address = self.loop.listen(address)
        except OSError:
            self.loop.close()
            raise
        self.thread = threading.Thread(target=self.loop.run, name="loop")
        self.thread.start()

    def connect(self, **options: Any) -> Connection:
        return Connection(self.address, self.key, **options)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run something in the loop's thread and return what it returns."""
        results: list[Any] = []
        done = threading.Event()

        def run() -> None:
            try:
                results.append(function(*args))
            finally:
                done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(PATIENCE)
        return results[0]

    def stop(self, drain: float = 0.0, *, for_good: bool = False) -> None:
        self.loop.stop(drain, for_good=for_good)
        self.thread.join()


@contextlib.contextmanager
def serving(
    service: Any = None,
    address: Any = ("127.0.0.1", 0),
    key: bytes = KEY,
    limits: Limits | None = None,
) -> Iterator[Serving]:
    running = Serving(service or Service(), address, key, limits)
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(running.loop._finish)
        running.thread.join()


class Server:
    """A server in a process of its own, to be killed, stopped and started again."""

    def __init__(
        self,
        address: Any = ("127.0.0.1", 0),
        limits: Limits | None = None,
        prepare: Callable[[], Any] = lambda: None,
    ) -> None:
        self.address = address
        self.limits = limits
        self.prepare = prepare
        self.pid = 0
        self.start()

    def start(self) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(read)
                self._serve(write)
            finally:
                os._exit(1)
        os.close(write)
        with os.fdopen(read, "rb") as told:
            port = told.readline().decode().strip()
        assert port
        if isinstance(self.address, tuple):
            self.address = (self.address[0], int(port))

    def _serve(self, write: int) -> None:
        logging.disable()
        self.prepare()
        loop = EventLoop(Service(), KEY, self.limits)
        address = loop.listen(self.address)
        signal.signal(signal.SIGTERM, lambda *_: loop.stop(5.0))
        os.write(write, f"{address[1] if isinstance(address, tuple) else 1}\n".encode())
        os.close(write)
        loop.run()
        os._exit(0)

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Signal it and return its status."""
        pid, self.pid = self.pid, 0
        if not pid:
            return 0
        os.kill(pid, how)
        return os.waitpid(pid, 0)[1]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Peer:
    """A client by hand: says what it is told to, reads only when it is told to."""

    def __init__(self, address: Any, key: bytes = KEY, limits: Limits | None = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(address)
        self.channel = ClientHandshake(key, limits or Limits())

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def shake_hands(self) -> None:
        self.sock.sendall(self.channel.take())
        while not self.channel.established:
            data = self.sock.recv(4096)
            assert data, "closed in the middle of the handshake"
            self.channel.receive(data)
        self.sock.sendall(self.channel.take())

    def say(self, number: int, verb: int, *fields: Any) -> None:
        self.channel.put(number, verb, fields)
        self.send()

    def send(self) -> None:
        while data := self.channel.take():
            self.sock.sendall(data)

    def hear(self) -> list[Any]:
        """Return messages as soon as there are some; none if the server has closed."""
        while True:
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                return []
            messages = self.channel.receive(data) if data else []
            if messages or not data:
                return messages

    def is_dropped(self) -> bool:
        """Read until the server closes; whether it did."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True
