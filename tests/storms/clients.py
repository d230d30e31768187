"""The clients of a storm: what they do with a store, and what they say of it in their journals."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import garrison
from garrison.errors import ClaimLost, LeaseLost, ManagerLost

from .board import LIFE, LOCKS, PATIENCE, SERVER_GONE, STOP, Board, Journal

KEY = b"the key of a storm, long enough"
ACCOUNTS = 20
BALANCE = 1000
END = -1
"""What tells a listener to leave."""


class Things:
    """The containers of a storm, each under its name."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.accounts = manager.dict("accounts")
        self.counts = manager.dict("counts")
        self.people = manager.dict("people")
        self.log = manager.list(name="log")
        self.notes = manager.list(name="notes")
        self.done = manager.list(name="done")
        self.tallies = manager.Counter("tallies")
        self.orders = manager.JoinableQueue("orders")
        self.calls = manager.Queue("calls")
        self.answers = manager.Queue("answers")

    def fill(self) -> None:
        """Put in what is there at the beginning."""
        with self.manager.transaction():
            self.accounts.update((n, BALANCE) for n in range(ACCOUNTS))
            self.counts["transfers"] = 0


@dataclass(frozen=True)
class Part:
    """What a client is to be: everything that it needs to know."""

    ident: int
    slot: int
    seed: int
    kind: str
    """"local", "remote", "local listener" or "remote listener"."""
    address: Any
    folder: str
    local_lock: Any
    manager: Any = None
    """One that is there already, for who was forked with it."""

    @property
    def journal(self) -> Path:
        """The file in which it writes what it does."""
        return Path(self.folder, f"journal-{self.ident}")

    @property
    def is_remote(self) -> bool:
        """Whether it reaches the store through the server."""
        return self.kind.startswith("remote")


def be(part: Part) -> None:
    """Be a client until told to stop."""
    faulthandler.enable()
    journal = Journal(part.journal)
    board = Board(Path(part.folder, "board"))
    try:
        manager = part.manager or _connected(part, board)
        board.beat(part.slot, 0)
        if part.kind.endswith("listener"):
            Listener(part, manager, board).run()
        else:
            Client(part, manager, journal, board).run()
    except ManagerLost:
        if not board[SERVER_GONE]:
            journal.wrong(traceback.format_exc())
    except BaseException:
        journal.wrong(traceback.format_exc())


def _connected(part: Part, board: Board) -> Any:
    """Find the server, which may just be started again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return garrison.connect(part.address, KEY, direct=not part.is_remote)
        except OSError:
            if board[SERVER_GONE]:
                raise ManagerLost("there is no server any more") from None
            if time.monotonic() > end:
                raise
            time.sleep(0.01)  # nothing tells when somebody listens there


def surely(board: Board, step: Callable[[], Any]) -> Any:
    """Do something again and again, until no server has died in the middle of it."""
    while True:
        try:
            return step()
        except ManagerLost:
            if board[SERVER_GONE]:
                raise


class Listener:
    """Answers to calls; waits as long as none comes."""

    def __init__(self, part: Part, manager: Any, board: Board) -> None:
        self._part, self._board = part, board
        self._things = surely(board, lambda: Things(manager))

    def run(self) -> None:
        """Answer until told to leave."""
        while True:
            try:
                if self._answer() == END:
                    return
            except ClaimLost:
                pass
            except ManagerLost:
                if self._board[SERVER_GONE]:
                    return

    def _answer(self) -> int:
        with self._things.calls.claim() as number:
            if number != END:
                self._things.answers.put(number)
        return int(number)


class Undone(Exception):
    """Raised on purpose."""


class Client:
    """Does one step after the other."""

    def __init__(self, part: Part, manager: Any, journal: Journal, board: Board) -> None:
        self._part, self._manager, self._journal, self._board = part, manager, journal, board
        self._rng = random.Random(part.seed)
        self._things = surely(board, lambda: Things(manager))
        self._serial = 0
        self._leases: list[Any] = []
        self._steps: list[Callable[[], None]] = [
            *[self._transfer] * 6,
            *[self._note] * 2,
            self._count,
            *[self._deal] * 2,
            self._take,
            self._lease,
            self._local,
        ]
        self._mine = surely(board, self._appear)
        self._history = surely(board, lambda: self._mine["history"])

    def _appear(self) -> Any:
        self._things.people[self._part.ident] = {"history": [], "moved": 0}
        return self._things.people[self._part.ident]

    def run(self) -> None:
        """Go on until told to stop."""
        while not self._board[STOP]:
            number = self._rng.randrange(len(self._steps))
            self._board.beat(self._part.slot, number)
            try:
                self._steps[number]()
            except ManagerLost:
                if self._board[SERVER_GONE] and self._part.is_remote:
                    return

    def name_of(self, step: int) -> str:
        """What a client does that has put this number on the board."""
        return self._steps[step].__name__

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _transfer(self) -> None:
        serial = self._next()
        self._journal.begin("t", serial)
        try:
            with self._manager.transaction():
                self._move(serial)
                self._fail_now_and_then()
        except Undone:
            self._journal.undone("t", serial)
        else:
            self._journal.acked("t", serial)

    def _move(self, serial: int) -> None:
        """Change several containers, which have to agree afterwards."""
        things, ident = self._things, self._part.ident
        source, target = self._rng.sample(range(ACCOUNTS), 2)
        amount = self._rng.randrange(1, 100)
        things.accounts[source] -= amount
        things.log.append((ident, serial, source, target, amount))
        things.accounts[target] += amount
        self._history.append(serial)
        things.counts.add("transfers")
        if serial % 8 == 0:
            things.orders.put(ident << 32 | serial)
        self._mine["moved"] += amount

    def _fail_now_and_then(self) -> None:
        if self._rng.random() < 0.1:
            raise Undone

    def _note(self) -> None:
        serial = self._next()
        self._journal.begin("n", serial)
        self._things.notes.append(self._part.ident << 32 | serial)
        self._journal.acked("n", serial)

    def _count(self) -> None:
        serial = self._next()
        self._journal.begin("c", serial)
        self._things.tallies.add(self._part.ident)
        self._journal.acked("c", serial)

    def _deal(self) -> None:
        """Deal with an order; give it back now and then."""
        item = 0
        try:
            with self._things.orders.claim(timeout=0.02) as item:
                self._journal.begin("k", item)
                self._fail_now_and_then()
        except queue.Empty:
            return
        except (Undone, ClaimLost):
            self._journal.undone("k", item)
        else:
            self._journal.acked("k", item)

    def _take(self) -> None:
        """Move an order to where those are that are done with."""
        things = self._things
        with contextlib.suppress(queue.Empty), self._manager.transaction():
            item = things.orders.get(block=False)
            things.orders.task_done()
            things.done.append(item)

    def _lease(self) -> None:
        if self._board[SERVER_GONE]:
            return
        if not self._leases:
            self._leases = [self._manager.Lock(f"lock {n}") for n in range(LOCKS)]
        which = self._rng.randrange(LOCKS)
        lock = self._leases[which]
        life = self._board[LIFE]
        if not lock.acquire(timeout=PATIENCE / 2):
            holder = self._board.holder(which)
            self._journal.wrong(f"lock {which} is not to be had; process {holder} has it")
            return
        try:
            with self._board.inside(which, lock.fence):
                self._things.counts.add(f"lock {which}", 1, 0)
        finally:
            try:
                lock.release()
            except LeaseLost:
                if self._board[LIFE] == life:
                    self._journal.wrong(f"the lease of lock {which} was over")

    def _local(self) -> None:
        if not self._part.local_lock.acquire(timeout=PATIENCE / 2):
            self._journal.wrong("the lock in shared memory is not to be had")
            return
        try:
            with self._board.inside(LOCKS, 0):
                os.getppid()
        finally:
            self._part.local_lock.release()
