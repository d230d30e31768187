"""The judge of a storm: compares what clients have said with what is in the store."""

from __future__ import annotations

import queue
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from waiting import becomes_true

from .board import LOCKS, PATIENCE, SERVER_GONE, Account, Board, Reader
from .clients import ACCOUNTS, BALANCE, Part, Things

MASK = (1 << 32) - 1


@dataclass
class Tally:
    """What happened; the list has to stay empty."""

    kills: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether all is as it should be."""
        return not self.wrong


@dataclass
class Seen:
    """What of a client's steps is in the store."""

    transfers: list[int] = field(default_factory=list)
    moved: int = 0
    notes: list[int] = field(default_factory=list)


class Judge:
    """Takes the containers' contents out of the store, step by step, and keeps account.

    Parameters
    ----------
    board
        Whether there is a server.
    tally
        Where it writes what is wrong.
    local_lock
        The lock in shared memory.
    """

    def __init__(self, board: Board, tally: Tally, local_lock: Any) -> None:
        self._board, self._tally, self._local = board, tally, local_lock
        self._balances = dict.fromkeys(range(ACCOUNTS), BALANCE)
        self._readers: dict[int, Reader] = {}
        self._seen: dict[int, Seen] = defaultdict(Seen)
        self._put: set[int] = set()
        self._done: set[int] = set()
        self._settled: set[int] = set()
        self._maybe: set[int] = set()
        self._calls = 0

    def expect(self, part: Part) -> None:
        """Look after another client."""
        self._readers[part.ident] = Reader(part.journal)

    def wrong(self, text: str) -> None:
        """Note what must not be."""
        self._tally.wrong.append(text)

    # -- after each kill --------------------------------------------------------------------------

    def check(self, things: Things, dead: Iterable[int]) -> None:
        """Everything is there entirely or not at all, and what was acknowledged is there."""
        dead = set(dead)
        acked = {
            ident: (set(reader.accounts["t"].acked), set(reader.accounts["n"].acked))
            for ident, reader in self._readers.items()
            if reader.read() is reader
        }
        people = self._take_out(things, dead)
        for ident, (transfers, notes) in acked.items():
            seen = self._seen[ident]
            self._missing(ident, "transfers", transfers - set(seen.transfers))
            self._missing(ident, "notes", notes - set(seen.notes))
        for ident in dead:
            self._bury(ident, people.get(ident), things.tallies[ident])

    def _missing(self, ident: int, what: str, numbers: set[int]) -> None:
        if numbers:
            few = sorted(numbers)[:5]
            self.wrong(f"{len(numbers)} acknowledged {what} of client {ident} are gone: {few}")

    def _take_out(self, things: Things, dead: set[int]) -> dict[int, Any]:
        """Empty the containers in one transaction; return what the dead have left."""
        people = {}
        with things.manager.transaction():
            entries, count = things.log.copy(), things.counts["transfers"]
            things.log.clear()
            things.counts["transfers"] = 0
            balances = things.accounts.copy()
            notes = things.notes.copy()
            things.notes.clear()
            done = things.done.copy()
            things.done.clear()
            for ident in dead:
                people[ident] = things.people.pop(ident, None)
        self._check_log(entries, count, balances)
        for note in notes:
            self._seen[note >> 32].notes.append(note & MASK)
        twice = self._done & set(done) or [item for item, n in Counter(done).items() if n > 1]
        if twice:
            self.wrong(f"orders were taken twice: {sorted(twice)[:5]}")
        self._done.update(done)
        self._tally.done.update(transfers=len(entries), notes=len(notes), orders=len(done))
        return people

    def _check_log(self, entries: list[Any], count: int, balances: dict[int, int]) -> None:
        for ident, serial, source, target, amount in entries:
            self._balances[source] -= amount
            self._balances[target] += amount
            seen = self._seen[ident]
            seen.transfers.append(serial)
            seen.moved += amount
            if serial % 8 == 0:
                self._put.add(ident << 32 | serial)
        if count != len(entries):
            self.wrong(f"{len(entries)} entries in the log, but the count is {count}")
        if balances != self._balances:
            total = sum(balances.values())
            self.wrong(f"accounts do not agree with the log; their sum is {total}: {balances}")
            self._balances = balances

    def _bury(self, ident: int, left: Any, tally: int) -> None:
        """Settle the account of a client that is no more."""
        reader, seen = self._readers.pop(ident).read(), self._seen.pop(ident, Seen())
        accounts = reader.accounts
        for text in reader.wrong:
            self.wrong(f"client {ident}: {text}")
        self._compare(f"transfers of client {ident}", seen.transfers, accounts["t"])
        self._compare(f"notes of client {ident}", seen.notes, accounts["n"])
        counted = accounts["c"]
        if not len(counted.acked) <= tally <= len(counted.begun):
            sums = f"{len(counted.acked)} to {len(counted.begun)}"
            self.wrong(f"client {ident} has counted to {sums}, but the number is {tally}")
        agreed = {"history": seen.transfers, "moved": seen.moved}
        if (left or {"history": [], "moved": 0}) != agreed:
            self.wrong(f"client {ident}: its own containers do not agree with the log")
        self._settle(accounts["k"])
        self._tally.done.update(counts=len(counted.acked))
        reader.close()

    def _compare(self, what: str, found: list[int], said: Account) -> None:
        if found != sorted(set(found)):
            self.wrong(f"{what} are there twice, or not in their order")
        more = set(found) - said.begun | set(found) & said.undone
        if more:
            self.wrong(f"{what} that were undone or never begun: {sorted(more)[:5]}")

    def _settle(self, claimed: Account) -> None:
        twice = self._settled & claimed.acked
        if twice:
            self.wrong(f"orders were dealt with twice: {sorted(twice)[:5]}")
        self._settled |= claimed.acked
        self._maybe |= claimed.unknown
        self._tally.done.update(claims=len(claimed.acked))

    # -- who waits must wake up, who is dead must hold nothing ------------------------------------

    def call(self, things: Things) -> None:
        """Call the listeners: one of them has to answer."""
        self._calls += 1
        things.calls.qsize()  # may be asked again where the server is another one by now
        things.calls.put(self._calls)
        answer = 0
        try:
            while answer != self._calls:
                answer = things.answers.get(timeout=PATIENCE)
        except queue.Empty:
            self.wrong(f"nobody answers to call {self._calls}; {things.calls!r}")

    def take_locks(self, things: Things, which: Iterable[int]) -> None:
        """Take and give back locks."""
        for number in which:
            if number == LOCKS:
                lock = self._local
            elif self._board[SERVER_GONE]:
                continue
            else:
                lock = things.manager.Lock(f"lock {number}")
            if not lock.acquire(timeout=PATIENCE):
                self.wrong(f"lock {number} stays taken by {self._board.holder(number)}")
                continue
            lock.release()

    # -- in calm weather --------------------------------------------------------------------------

    def check_orders(self, things: Things) -> None:
        """Each order has been dealt with once, or is in the queue."""
        orders = things.orders
        lost_claims = 0

        def all_back() -> bool:
            return bool(orders.qsize() == _unfinished(orders))

        if self._board[SERVER_GONE]:
            # Nobody has looked for claims of the dead since.
            lost_claims = _unfinished(orders) - orders.qsize()
        elif not becomes_true(all_back):
            count = _unfinished(orders) - orders.qsize()
            self.wrong(f"{count} claimed orders have not come back")
        left = self._drain(orders)
        gone = self._done | self._settled
        found = gone | set(left)
        for text, items in (
            ("orders in the queue twice", {item for item, n in Counter(left).items() if n > 1}),
            ("orders dealt with, but in the queue", gone & set(left)),
            ("orders taken and dealt with", self._done & self._settled),
            ("orders that nobody has put", found - self._put),
            ("orders lost", self._put - found - self._maybe),
        ):
            if items:
                self.wrong(f"{len(items)} {text}: {sorted(items)[:5]}")
        if lost_claims > len(self._maybe):
            self.wrong(f"{lost_claims} claims, but only {len(self._maybe)} were begun")
        self._tally.done["orders left"] += len(left)
        for kept in (self._put, self._done, self._settled, self._maybe):
            kept.clear()

    @staticmethod
    def _drain(orders: Any) -> list[int]:
        items: list[int] = []
        while True:
            try:
                items += orders.get_many(500, block=False)
            except queue.Empty:
                break
        for _ in items:
            orders.task_done()
        return items

    def check_room(self, things: Things, containers: int) -> int:
        """Nothing but the containers with names is left in the store; return how many."""
        engine = things.orders._backend
        if self._board[SERVER_GONE]:
            return containers  # a server sweeps

        def count() -> int:
            return int(engine.statistics()["containers"])

        if containers and not becomes_true(lambda: count() <= containers):
            self.wrong(f"{count()} containers in the store, at first {containers}")
        return containers or count()


def _unfinished(orders: Any) -> int:
    return int(orders._backend.metadata(orders._container_id)[4])
