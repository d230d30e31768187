"""The fork server: an interpreter whose forks are the supervisors of forkserver pools.

::

    program    request: descriptors, one of them for the pid ──────▶ server   fork ──▶ supervisor
    program  ◀── pid ────────────────────────────────────────────── server
    program    preparation data, process object ──────────────────────────────────────▶ supervisor

A program has one fork server, as in the standard library, which imports the modules of
`set_forkserver_preload` once. The standard library's server listens on a socket in a temporary
directory, which is left over if the program is killed; this one has a socket without a name. It
ends with the program.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import struct
import sys
import threading
from multiprocessing import context, popen_forkserver, resource_tracker, spawn, util

from garrison import _core, _os
from garrison._os.descriptor_channel import DescriptorChannel, descriptor_channels
from garrison._os.descriptor_sharing import send_fds
from garrison._os.process_watch import CHECK_INTERVAL_S, NO_DESCRIPTOR, ProcessWatch, wait_for_exit
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolBroken
from garrison.supervisor import _identity, _syscalls
from garrison.supervisor._fresh_start import (
    FreshPopen,
    SpawnedSupervisor,
    SupervisorPopen,
    begin_collecting,
    pickle_for,
)
from garrison.supervisor._fresh_worker import MAIN_IMPORTS, Forked, preload
from garrison.supervisor._start import close_fds, start_hidden

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["Preload", "ServedSupervisor", "stop"]

Preload = tuple[tuple[str, ...], "str | None", tuple[str, ...]]
"""Modules of the program, the path of its main module, modules of garrison."""

ATTEMPTS = 3
"""Servers in a row that may die before they have forked."""
START_TIMEOUT_S = 120.0
"""Seconds within which a server must have forked, or it counts as dead."""
END_TIMEOUT_S = 10.0
"""Seconds in which an unneeded server must end."""
_COUNT = struct.Struct("i")
_PID = struct.Struct("q")
_AT_ONCE = 200
"""Descriptors in one message; the kernel's limit is 253."""


# --- The server's process -------------------------------------------------------------------------


class _ServerProcess(context.SpawnProcess):
    """Imports the modules to preload, then forks on request."""

    def __init__(self, channel: DescriptorChannel, parent: int, wanted: Preload) -> None:
        super().__init__(name="PoolForkServer", daemon=False)
        self._parts = channel, parent, wanted

    def start(self) -> None:
        """Start the interpreter."""
        start_hidden(self)

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> FreshPopen:  # noqa: N802 - the standard name
        return SupervisorPopen(process_obj)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:  # noqa: ARG002 - the standard name
        channel, parent, (modules, main_path, ours) = self._parts
        try:
            preload((*ours, *MAIN_IMPORTS), None)
            begin_collecting()
            preload(modules, main_path)
            _serve(channel, parent)
        except Forked as forked:
            start = forked
        else:
            os._exit(0)
        # Outside of the handler: there `Forked` would become the context of every exception.
        start.__traceback__ = None
        return start.run(None)


def _serve(channel: DescriptorChannel, parent: int) -> None:
    """Fork on request until the program ends. Signals are blocked, as in a supervisor."""
    try:
        watch = ProcessWatch(parent)
    except ProcessLookupError:
        return
    # A preloaded module may have unblocked some, as the resource tracker does.
    _syscalls.block_all_but(())
    # Ignored: the kernel reaps.
    handler = _syscalls.set_handler(_syscalls.SIGCHLD, int(signal.SIG_IGN))
    gc.freeze()
    while not watch.has_ended():
        limit = CHECK_INTERVAL_S * 1000 if watch.fileno() == NO_DESCRIPTOR else None
        if channel.fileno() not in _core.poll([channel.fileno(), watch.fileno()], limit):
            continue
        fds = _receive(channel.fileno())
        if fds is None:
            return
        _fork(fds, channel, watch, handler)


def _fork(fds: list[int], channel: DescriptorChannel, watch: ProcessWatch, handler: Any) -> None:
    data, status, tracker, *given = fds
    try:
        pid = _syscalls.fork()
    except OSError:
        pid = None  # nothing is written, so the program notices
    if pid == 0:
        channel.close()
        watch.close()
        os.close(status)
        _syscalls.set_handler(_syscalls.SIGCHLD, _syscalls.SIG_DFL if handler is None else handler)
        gc.unfreeze()
        raise Forked("forkserver", lambda _: _begin(data, tracker, given))
    if pid is not None:
        with contextlib.suppress(OSError):
            os.write(status, _PID.pack(pid))
    for fd in fds:
        os.close(fd)


def _begin(data: int, tracker: int, given: list[int]) -> int:
    """Run in the forked process."""
    code = 1
    try:
        standard: Any = importlib.import_module("multiprocessing.forkserver")
        standard._forkserver._inherited_fds = given
        known: Any = resource_tracker
        known._resource_tracker._fd = tracker
        main: Any = spawn
        code = main._main(data, os.dup(data))
    except EOFError:
        pass  # the program has given up, or is gone
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def _receive(channel: int) -> list[int] | None:
    """Read a request; None if there will be no more."""
    own = socket.socket(fileno=os.dup(channel))
    with own:
        first, fds, _, _ = socket.recv_fds(own, _COUNT.size, _AT_ONCE)
        if len(first) < _COUNT.size:
            return None
        (count,) = _COUNT.unpack(first)
        while len(fds) < count:
            more, others, _, _ = socket.recv_fds(own, 1, _AT_ONCE)
            if not more:
                return None
            fds += others
    return fds


def _send(channel: int, fds: list[int]) -> None:
    with socket.socket(fileno=os.dup(channel)) as own:
        send_fds(own, _COUNT.pack(len(fds)), fds[:_AT_ONCE])
        for start in range(_AT_ONCE, len(fds), _AT_ONCE):
            send_fds(own, b"+", fds[start : start + _AT_ONCE])


# --- The program's side ---------------------------------------------------------------------------


class _Server:
    """The program's fork server."""

    def __init__(self, wanted: Preload) -> None:
        self.kind = _kind_of(wanted)
        self._channel, theirs = descriptor_channels()
        try:
            with _identity.uncounted():
                self._process = _ServerProcess(theirs, os.getpid(), wanted)
            self._process.start()
            self._watch = ProcessWatch(self._process._popen.pid)  # type: ignore[attr-defined]
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()

    def ask(self, fds: list[int]) -> bool:
        """Request a fork with these descriptors; False if the server is gone."""
        try:
            if not self._channel.is_ours:
                return False
            _send(self._channel.fileno(), fds)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End it after its pending requests, and reap it."""
        self._channel.close()
        if not self._watch.wait(END_TIMEOUT_S):
            _os.kill_if_alive(self._watch.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            _syscalls.waitpid(self._watch.pid, 0)
        self._watch.close()


def _kind_of(wanted: Preload) -> tuple[Any, ...]:
    """Return the settings that a usable server was started with."""
    return wanted[:2], spawn.get_executable(), os.getresuid(), os.getresgid()


_server: _Server | None = None
_lock = threading.RLock()


def _forget() -> None:
    """In a forked child: the server remains the parent's."""
    global _server  # noqa: PLW0603 - one per process
    _lock._at_fork_reinit()  # type: ignore[attr-defined]
    _server = None


os.register_at_fork(after_in_child=_forget)


def stop(only: _Server | None = None) -> None:
    """End the fork server (or only this one); the next pool starts another."""
    global _server  # noqa: PLW0603 - one per process
    with _lock:
        server = _server
        if server is not None and only in {None, server}:
            _server = None
            server.close()


def _ask(wanted: Preload, fds: list[int]) -> _Server:
    """Request a fork of the fork server; start a server if there is no usable one."""
    global _server  # noqa: PLW0603 - one per process
    with _lock:
        if _server is None or _server.kind != _kind_of(wanted) or not _server.ask(fds):
            stop()
            _server = _Server(wanted)
            _server.ask(fds)
        return _server


class ServedSupervisor(SpawnedSupervisor):
    """A supervisor that is a fork of the fork server."""

    def __init__(self, *args: Any, wanted: Preload, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        self.wanted = wanted

    def start(self) -> None:
        """Request the fork, and send its data."""
        super().start()
        own: Any = self
        own._popen.hand_over()

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802 - the standard name
        return _ServedPopen(process_obj)


class _ServedPopen(FreshPopen):
    method = "forkserver"
    DupFd = popen_forkserver._DupFd  # type: ignore[assignment]

    def duplicate_for_child(self, fd: int) -> int:
        """Return the index of a descriptor among those for the child."""
        own: Any = self
        own._fds.append(fd)
        return len(own._fds) - 1

    def _launch(self, process_obj: BaseProcess) -> None:
        own: Any = process_obj
        self.pid: Any = None
        self._message = pickle_for(self, self._prepare(process_obj.name), process_obj, self._dumps)
        self._wanted = own.wanted
        self._request()

    def _request(self) -> None:
        own: Any = self
        data_read, data_write = os.pipe()
        self.sentinel, status = os.pipe()
        self._data = data_write
        # The child sees the end of its parent when this end is closed.
        self.finalizer = util.Finalize(self, close_fds, (data_write, self.sentinel))
        try:
            fds = [data_read, status, resource_tracker.getfd(), *own._fds]
            self._server = _ask(self._wanted, fds)
        finally:
            os.close(data_read)
            os.close(status)

    def hand_over(self) -> None:
        """Read its pid and send its data. After an interrupt here it ends by itself."""
        own: Any = self
        for _ in range(ATTEMPTS):
            if _os.is_readable(self.sentinel, START_TIMEOUT_S):
                number = os.read(self.sentinel, _PID.size)
                if number:
                    (self.pid,) = _PID.unpack(number)
                    break
            own.finalizer()
            stop(self._server)
            self._request()
        else:
            msg = f"the fork server did not start, {ATTEMPTS} times in a row"
            raise PoolBroken(msg)
        message, self._message = self._message, b""
        no_signal = _syscalls.block_signals((_syscalls.SIGPIPE,))
        gone = contextlib.suppress(BrokenPipeError)
        with no_signal, gone, os.fdopen(self._data, "wb", closefd=False) as file:
            file.write(message)

    def poll(self, flag: int = os.WNOHANG) -> int | None:  # noqa: ARG002 - the standard name
        """Return an exit code if it has ended; only its server knew the real one."""
        if self.returncode is None and self.pid is not None and wait_for_exit(self.pid, 0):
            self.returncode = 255
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end."""
        if self.pid is not None:
            wait_for_exit(self.pid, START_TIMEOUT_S if timeout is None else timeout)
        return self.poll()
