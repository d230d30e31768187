"""Where a storm has its store, and what becomes of its server."""

from __future__ import annotations

import os
import random
import signal
import socket
from multiprocessing import connection
from pathlib import Path
from typing import Any

import garrison
from garrison import _core
from garrison.managers import SyncManager
from waiting import becomes_true

from .board import PATIENCE
from .clients import KEY

__all__ = ["InMemory", "OnPath"]


def serve(path: str, address: Any, ready: Any) -> None:
    """Be the server of a folder; for nobody in particular, so that clients expect it back."""
    _core.die_with_parent(os.getppid())
    server = SyncManager(address, key=KEY, path=path).get_server()
    ready.send(server.address)
    ready.close()
    server.serve_forever()


def free_address(rng: random.Random) -> Any:
    """Return an address that nobody has, and that nobody is given by chance."""
    while True:
        address = "127.0.0.1", rng.randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
        return address


class OnPath:
    """A folder, and a server that is started again and again."""

    survives = True
    """Whether there is a server again after it was killed."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.path = folder / "store"
        self.address = free_address(rng)
        self._context: Any = garrison.get_context("forkserver")
        self._process: Any = None
        self.manager: Any = None

    def start(self) -> None:
        """Start a server, which may be the next of many."""
        here, there = connection.Pipe(duplex=False)
        arguments = (str(self.path), self.address, there)
        self._process = self._context.Process(target=serve, args=arguments)
        self._process.start()
        there.close()
        with here:
            if not here.poll(PATIENCE):
                raise TimeoutError("the server does not start")
            here.recv()
        if self.manager is None:
            self.manager = garrison.connect(self.address, KEY)

    def kill(self) -> None:
        """Kill the server."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    def stop(self) -> None:
        """End the server in good order."""
        os.kill(self._process.pid, signal.SIGTERM)
        self._process.join(PATIENCE)
        if self._process.exitcode != 0:
            raise AssertionError(f"the server has ended with {self._process.exitcode}")
        self.manager = None


class InMemory:
    """A store in memory; when its server is gone, it serves this machine only."""

    survives = False

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.address: Any = None
        self.manager: Any = None

    def start(self) -> None:
        """Start the server, and make the store."""
        context: Any = garrison.get_context("fork")
        self.manager = context.Manager(("127.0.0.1", 0), key=KEY)
        self.address = self.manager.address

    def kill(self) -> None:
        """Kill the server."""
        process = self.manager._process
        os.kill(process.pid, signal.SIGKILL)
        if not becomes_true(lambda: not process.is_alive()):
            raise AssertionError("the server survives SIGKILL")

    def stop(self) -> None:
        """Let go of the store."""
        self.manager.shutdown()
        self.manager = None
