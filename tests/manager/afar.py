"""Servers in processes of their own, and clients that do as they are told."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import garrison
from garrison.manager import SyncManager
from garrison.net._limits import Limits

KEY = b"a key that is long enough to be taken as it is"
LOOPBACK = ("127.0.0.1", 0)
PATIENCE = 20.0


def until(true: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for something that others bring about and nobody tells."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.005)


def until_waiting(lent: Any, count: int = 1) -> None:
    """Wait until so many wait for something that is lent."""
    until(lambda: lent._ask("waiting")[0] == count)


class Served:
    """A server, to be killed, stopped and started again at its address and path."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        address: Any = LOOPBACK,
        limits: Limits | None = None,
        key: bytes = KEY,
        enter: Callable[[], object] = lambda: None,
        **options: Any,
    ) -> None:
        self.address, self.key = address, key
        self._options = {"path": path, "limits": limits, **options}
        self._enter = enter
        self.pid = 0
        self.start()

    def start(self) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(read)
                self._serve(write)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(write)
        with os.fdopen(read, "rb") as told:
            port = told.readline().decode().strip()
        assert port, "the server could not be started"
        if isinstance(self.address, tuple):
            self.address = (self.address[0], int(port))

    def _serve(self, write: int) -> None:
        logging.disable()
        self._enter()
        server = SyncManager(self.address, self.key, **self._options).get_server()
        port = server.address[1] if isinstance(server.address, tuple) else 1
        os.write(write, f"{port}\n".encode())
        os.close(write)
        server.run()
        os._exit(0)

    def connect(self, **options: Any) -> SyncManager:
        return garrison.connect(self.address, self.key or None, **{"direct": False, **options})

    def wait(self) -> int:
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        if self.pid:
            os.kill(self.pid, how)
        return self.wait()

    def restart(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.end(how)
        self.start()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Actor:
    """A process that does one thing after the other: ``actor.do(function, ...)``.

    Each function is called with a place to keep things in, then with what was given.
    """

    def __init__(self, enter: Callable[[], object] = lambda: None) -> None:
        self._pipe, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._pipe.close()
                signal.signal(signal.SIGINT, signal.default_int_handler)
                logging.disable()
                enter()
                _act(theirs)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        theirs.close()

    def begin(self, function: Callable[..., Any], *args: Any) -> Actor:
        self._pipe.send((function, args))
        return self

    def result(self) -> Any:
        assert self._pipe.poll(PATIENCE), "it does not answer"
        result, error = self._pipe.recv()
        if error is not None:
            raise error
        return result

    def has_answered(self) -> bool:
        return self._pipe.poll(0)

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.begin(function, *args).result()

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def close(self) -> None:
        self.kill()
        self._pipe.close()

    def __enter__(self) -> Actor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Kept:
    """What an actor keeps from one call to the next."""

    client: Any
    thing: Any

    def __init__(self) -> None:
        self.also: dict[str, Any] = {}


def _act(pipe: Any) -> None:
    kept = Kept()
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        answer: tuple[Any, BaseException | None]
        try:
            answer = function(kept, *args), None
        except BaseException as error:
            answer = None, error
        try:
            pipe.send(answer)
        except Exception as error:
            pipe.send((None, RuntimeError(f"cannot be sent: {answer!r}: {error}")))


# -- what actors do -------------------------------------------------------------------------------


def connect(kept: Kept, address: Any, key: bytes = KEY, **options: Any) -> None:
    kept.client = garrison.connect(address, key, **{"direct": False, **options})


def connect_fast(kept: Kept, address: Any, limits: Limits) -> None:
    """Connect over a cable that was just put in: the kernel may not have noticed."""
    until(lambda: _has_connected(kept, address, limits))


def _has_connected(kept: Kept, address: Any, limits: Limits) -> bool:
    try:
        kept.client = garrison.connect(address, KEY, direct=False, limits=limits)
    except OSError:
        return False
    return True


def get(kept: Kept, kind: str, *args: Any) -> None:
    kept.thing = getattr(kept.client, kind)(*args)


def call(kept: Kept, method: str, *args: Any) -> Any:
    return getattr(kept.thing, method)(*args)


def look(kept: Kept, attribute: str) -> Any:
    return getattr(kept.thing, attribute)


@contextlib.contextmanager
def actor_at(served: Served, kind: str, *args: Any) -> Iterator[Actor]:
    """An actor with a connection and one thing of the server's."""
    with Actor() as actor:
        actor.do(connect, served.address)
        actor.do(get, kind, *args)
        yield actor


@contextlib.contextmanager
def thread(target: Callable[[], Any]) -> Iterator[threading.Thread]:
    """Run something meanwhile; what it raises is raised at the end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    running = threading.Thread(target=run)
    running.start()
    try:
        yield running
    finally:
        running.join(PATIENCE)
    assert not running.is_alive()
    if errors:
        raise errors[0]
