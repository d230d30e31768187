"""Servers in processes of their own, and processes that run functions for a test."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import garrison
from garrison.manager import SyncManager, is_valkey_url
from garrison.manager.client._client import get_client
from garrison.net import Connection
from garrison.net._limits import Limits
from waiting import wait_until

KEY = b"garrison-a-key-for-tests-that-needs-no-salt-at-all-0"
"""As `generate_key` makes them: it needs no salt."""
LOOPBACK = ("127.0.0.1", 0)
PATIENCE = 20.0


def wait_for_waiters(lock: Any, count: int = 1) -> None:
    """Wait until so many requests wait for a lock of the server."""
    wait_until(lambda: lock._ask("waiting")[0] == count)


def connection_to(address: Any, key: bytes = KEY) -> Connection:
    """Return this process's connection to a server, which its managers and proxies share."""
    return get_client(address, key, local=False).connection


def break_connections(address: Any) -> None:
    """Shut down this process's sockets to a server, as a broken network would."""
    break_all_connections(lambda peer: peer == address)


def break_all_connections(is_meant: Callable[[Any], bool] = bool) -> None:
    for number in _open_sockets():
        with socket.socket(fileno=os.dup(number)) as end, contextlib.suppress(OSError):
            if end.family != socket.AF_UNIX and is_meant(end.getpeername()):
                end.shutdown(socket.SHUT_RDWR)


def _open_sockets() -> list[int]:
    folder = Path("/proc/self/fd")
    return [int(entry.name) for entry in folder.iterdir() if entry.is_socket()]


def is_disconnected(_: object = None) -> bool:
    """Whether this process has no socket that its kernel counts as connected to a server."""
    for number in _open_sockets():
        with socket.socket(fileno=os.dup(number)) as end, contextlib.suppress(OSError):
            if end.family == socket.AF_INET and end.getpeername():
                return False
    return True


class ServerProcess:
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
        return garrison.connect(
            self.address, self.key or garrison.NO_KEY, **{"direct": False, **options}
        )

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

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class RemoteProcess:
    """A process that runs one function after the other: ``process.do(function, ...)``.

    Each function is called with the `State` of the process, then with the arguments.
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

    def begin(self, function: Callable[..., Any], *args: Any) -> RemoteProcess:
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

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def close(self) -> None:
        self.kill()
        self._pipe.close()

    def __enter__(self) -> RemoteProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class State:
    """What an process keeps from one call to the next."""

    client: Any
    thing: Any

    def __init__(self) -> None:
        self.also: dict[str, Any] = {}


def _act(pipe: Any) -> None:
    state = State()
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        answer: tuple[Any, BaseException | None]
        try:
            answer = function(state, *args), None
        except BaseException as error:
            answer = None, error
        try:
            pipe.send(answer)
        except Exception as error:
            pipe.send((None, RuntimeError(f"cannot be sent: {answer!r}: {error}")))


# -- functions for `RemoteProcess` ----------------------------------------------------------------


def connect(state: State, address: Any, key: bytes = KEY, **options: Any) -> None:
    if is_valkey_url(address):
        state.client = garrison.connect(address)
    else:
        state.client = garrison.connect(address, key, **{"direct": False, **options})


def connect_fast(state: State, address: Any, limits: Limits) -> None:
    """Connect over a cable that was just put in: the kernel may not have noticed."""
    wait_until(lambda: _has_connected(state, address, limits))


def _has_connected(state: State, address: Any, limits: Limits) -> bool:
    try:
        state.client = garrison.connect(address, KEY, direct=False, limits=limits)
    except OSError:
        return False
    return True


def get(state: State, kind: str, *args: Any) -> None:
    state.thing = getattr(state.client, kind)(*args)


def call(state: State, method: str, *args: Any) -> Any:
    return getattr(state.thing, method)(*args)


def get_attribute(state: State, attribute: str) -> Any:
    return getattr(state.thing, attribute)


@contextlib.contextmanager
def remote_process_at(server: Any, kind: str, *args: Any) -> Iterator[RemoteProcess]:
    """An process with a connection and one thing of the server's."""
    with RemoteProcess() as process:
        process.do(connect, server.address)
        process.do(get, kind, *args)
        yield process


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
