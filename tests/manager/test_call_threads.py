"""The threads of a server that run calls: as many as clients need, within bounds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from garrison.manager.server._call_threads import CallThreads, ThreadBudget, TooManyThreads
from garrison.managers import BaseManager, RemoteError
from garrison.net import Limits, RemoteFailure, Verb
from net.wire_tools import Peer
from waiting import wait_until

from .processes import KEY, PATIENCE, connection_to
from .registered import Tally


class Blocked:
    """A job that runs until it is released."""

    def __init__(self) -> None:
        self.started, self.released = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.started.set()
        assert self.released.wait(PATIENCE)


@pytest.fixture
def budget() -> ThreadBudget:
    return ThreadBudget(Limits(threads_per_client=2, max_threads=3))


@pytest.fixture
def threads(budget: ThreadBudget) -> Iterator[CallThreads]:
    made = CallThreads(budget)
    yield made
    for client in "abc":
        made.end(client)
    wait_until(lambda: budget.total == 0)


@pytest.fixture
def blocked(threads: CallThreads) -> Iterator[list[Blocked]]:
    jobs = [Blocked() for _ in range(3)]
    for client, number, job in zip("aab", (1, 2, 1), jobs, strict=True):
        threads.run(client, number, job)
        assert job.started.wait(PATIENCE)
    yield jobs
    for job in jobs:
        job.released.set()


def test_threads_of_a_client_and_of_all_are_bounded(
    threads: CallThreads, blocked: list[Blocked], budget: ThreadBudget
) -> None:
    with pytest.raises(TooManyThreads, match="use 2 threads of the server"):
        threads.run("a", 3, print)
    with pytest.raises(TooManyThreads, match="those of all clients 3; at most 2 and 3 may"):
        threads.run("b", 2, print)
    ran = threading.Event()
    threads.run("a", 1, ran.set)  # behind the job of this thread
    blocked[0].released.set()
    assert ran.wait(PATIENCE)
    assert budget.total == 3


def test_threads_of_a_lost_client_count_until_they_end(
    threads: CallThreads, blocked: list[Blocked], budget: ThreadBudget
) -> None:
    threads.end("a")
    with pytest.raises(TooManyThreads):
        threads.run("c", 1, print)
    blocked[0].released.set()
    wait_until(lambda: budget.total == 2)
    ran = threading.Event()
    threads.run("c", 1, ran.set)
    assert ran.wait(PATIENCE)


def test_idle_thread_makes_room_for_another(threads: CallThreads, budget: ThreadBudget) -> None:
    for number in range(20):
        done: queue.SimpleQueue[int] = queue.SimpleQueue()
        threads.run("a", number, lambda: done.put(1))
        done.get(timeout=PATIENCE)
        wait_until(lambda: len(threads._idle) == len(threads))
    assert budget.total <= 2


class TallyManager(BaseManager):
    """Serves tallies."""


TallyManager.register("Tally", Tally)


def test_made_up_thread_numbers_make_few_threads() -> None:
    limits = Limits(threads_per_client=8)
    with TallyManager(("127.0.0.1", 0), KEY, limits=limits) as server:
        tally: Any = server.Tally()  # type: ignore[attr-defined]
        connection = connection_to(server.address)
        refused: list[str] = []
        with connection.batch() as batch:
            replies = [
                batch.ask(Verb.CALL, tally._token.id, "add", b"", 10_000 + number)
                for number in range(300)
            ]
        for reply in replies:
            try:
                reply.get()
            except RemoteFailure as failure:
                refused.append(failure.text)
        assert all("at most 8" in text for text in refused)
        process = psutil.Process(server._process.pid)
        assert process.num_threads() < 30
        wait_until(lambda: _adds(tally))
        assert tally.add(0) == 300 - len(refused)


def _adds(tally: Any) -> bool:
    try:
        tally.add(0)
    except RemoteError:
        return False
    return True


def test_call_without_a_number_is_refused_and_not_run() -> None:
    with TallyManager(("127.0.0.1", 0), KEY) as server:
        tally: Any = server.Tally()  # type: ignore[attr-defined]
        with Peer(server.address, KEY) as peer:
            peer.shake_hands()
            peer.say(0, Verb.CALL, tally._token.id, "add", b"", 1)
            peer.say(1, Verb.CALL, tally._token.id, "add", b"", 1)
            answered: list[int] = []
            while 1 not in answered:
                answered += [number for number, _, _ in peer.hear()]
        assert tally.add(0) == 1
