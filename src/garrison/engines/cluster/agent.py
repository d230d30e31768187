"""The agent of a node: it starts the node's pool, and carries messages between it and the driver.

An adapter makes an `Agent` in a process of the node, in whatever its cluster calls an actor, and
forwards the calls of `Node` to it. Its methods may be called by several threads at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections import deque
from multiprocessing.connection import Connection

from garrison._typing import Any
from garrison.engines.cluster._blobs import copied_block
from garrison.engines.cluster._messages import (
    BLOB,
    MISSING,
    OPENED,
    READY,
    TASKS,
    Setup,
    about,
    check_versions,
)
from garrison.errors import SharedMemoryFull
from garrison.memory.handles import SharedBlock, address_of

__all__ = ["Agent", "about"]

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from garrison.engines.cluster._node_pool import main; main()"
)
START_TIMEOUT_S = 120.0
"""Seconds that a node's pool may take to start: a busy machine, a slow file system."""
END_TIMEOUT_S = 5.0
"""Seconds that it has to end by itself."""


class Agent:
    """Runs the tasks of a node, in a pool in a process of its own.

    Parameters
    ----------
    setup : bytes
        What `Cluster.start` got from the driver.
    workers : int
        Workers of the local pool.
    name : str
        The node's name, for messages.
    number : int, optional
        Its place among the pool's nodes, if that is the same in each run: it seeds the workers. By
        default its name does.

    Raises
    ------
    EngineMismatch
        If versions of Python or garrison differ from those of the driver.
    RuntimeError
        If the pool's process did not start.
    """

    def __init__(self, setup: bytes, workers: int, name: str, number: int | None = None) -> None:
        # Before the rest of it is loaded: another version may have another form of it.
        check_versions(Setup.loads(setup).versions, about(), name)
        self.name = name
        self._changed = threading.Condition()
        self._replies: deque[bytes] = deque()
        self._sending = threading.Lock()
        self._blocks: dict[int, SharedBlock] = {}
        """Blobs that the pool has not opened yet."""
        self._lost: str | None = None
        self._reader: threading.Thread | None = None
        self._process, self._socket = _start_pool()
        self._connection = Connection(os.dup(self._socket.fileno()))
        try:
            self._connection.send_bytes(pickle.dumps((setup, workers, name, number)))
            if not self._connection.poll(START_TIMEOUT_S):
                raise TimeoutError(f"it did not start within {START_TIMEOUT_S:g} s")  # noqa: TRY301
            first = self._connection.recv_bytes()
            if pickle.loads(first)[0] != READY:  # noqa: S301 - written by the process started here
                self._replies.append(first)
        except (EOFError, OSError) as error:
            self.end()
            raise RuntimeError(f"the pool of node {name} did not start: {error!r}") from error
        except BaseException:
            self.end()
            raise
        self._reader = threading.Thread(target=self._read, name="garrison-agent", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Keep what the pool sends until the driver asks."""
        try:
            while True:
                reply = self._connection.recv_bytes()
                if reply[:1] == OPENED:
                    self._blocks.pop(int(reply[1:]), None)
                    continue
                with self._changed:
                    self._replies.append(reply)
                    self._changed.notify_all()
        except (EOFError, OSError):
            with self._sending:
                self._connection.close()
            code = self._process.wait()
            with self._changed:
                self._lost = f"the process of its pool ended with exit code {code}"
                self._changed.notify_all()

    def give(self, message: bytes, blobs: list[tuple[int, Any]]) -> list[bytes]:
        """Take tasks; return at once, with the results that are there.

        `blobs` has numbers and buffers: the adapter has fetched what `Cluster.put` stored.

        Raises
        ------
        RuntimeError
            If the node's pool has ended.
        """
        try:
            with self._sending:
                for number, data in blobs:
                    self._send_blob(number, data)
                self._connection.send_bytes(TASKS + message)
        except OSError:
            # What it has sent before its end comes first: it may say why.
            with self._changed:
                self._changed.wait_for(lambda: self._lost, END_TIMEOUT_S)
        return self._take()

    def _send_blob(self, number: int, data: Any) -> None:
        """Copy a blob into shared memory, which the pool opens and then keeps."""
        try:
            block = copied_block(data)
        except SharedMemoryFull:
            # The tasks that open it fail, and say so; it comes again with the next ones.
            with self._changed:
                self._replies.append(pickle.dumps((MISSING, number)))
                self._changed.notify_all()
            return
        self._blocks[number] = block
        self._connection.send_bytes(BLOB + pickle.dumps((number, address_of(block))))

    def collect(self, seconds: float) -> list[bytes]:
        """Return results when there are some, or nothing after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._replies or self._lost, seconds)
        return self._take()

    def _take(self) -> list[bytes]:
        with self._changed:
            found = list(self._replies)
            self._replies.clear()
        if not found and self._lost is not None:
            raise RuntimeError(self._lost)
        return found

    def end(self) -> None:
        """End the local pool and all that it runs."""
        # To close it would not wake the thread that reads.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        self._connection.close()
        self._socket.close()


def _start_pool() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a node's pool as a program of its own, and return its process and a socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        command = [sys.executable, "-c", _PROGRAM, str(number), json.dumps(sys.path)]
        # Pools inside of tasks are on their node.
        environment = {key: value for key, value in os.environ.items() if key != "GARRISON_ENGINE"}
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process, ours
