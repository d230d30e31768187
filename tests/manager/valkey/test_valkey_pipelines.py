"""Pipelines on a Valkey server: many operations in one round trip, in their order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison.errors import ContainerGone
from valkey_server import ValkeyServer
from waiting import wait_until


@pytest.fixture
def manager(server: ValkeyServer) -> Iterator[Any]:
    with garrison.Manager(server.url()) as connected:
        yield connected
    vars(connected).clear()  # pytest keeps it for a while


def test_results_are_there_after_the_block(manager: Any) -> None:
    stock, log = manager.dict(apples=3), manager.list()
    with manager.pipeline() as pipeline:
        later, lines = pipeline(stock), pipeline(log)
        later["pears"] = 5
        apples, plums = later.get("apples"), later.get("plums", 0)
        for i in range(300):
            lines.append(i)
        last = lines.pop()
        with pytest.raises(RuntimeError, match="at the end of its block"):
            _ = last.value
    assert (apples.value, plums.value, last.value) == (3, 0, 299)
    assert (dict(stock), list(log)) == ({"apples": 3, "pears": 5}, list(range(299)))


def test_a_hundred_operations_are_one_round_trip(server: ValkeyServer, manager: Any) -> None:
    shared = manager.dict()
    with manager.pipeline() as pipeline:
        pipeline(shared)[0] = 0
    link, trips = manager._link, []
    ask = link._replies

    def counted(wire: Any, commands: Any, writes: bool) -> Any:
        trips.append(len(commands))
        return ask(wire, commands, writes)

    link._replies = counted
    with manager.pipeline() as pipeline:
        later = pipeline(shared)
        for i in range(100):
            later[i] = i
    del link._replies
    assert len(trips) == 1
    assert len(shared) == 100


def test_failures_are_raised_where_they_belong(manager: Any) -> None:
    shared = manager.dict(a=1)
    with manager.pipeline() as pipeline:
        later = pipeline(shared)
        missing = later.pop("nothing")
        later["b"] = 2
    with pytest.raises(KeyError, match="nothing"):
        _ = missing.value
    assert dict(shared) == {"a": 1, "b": 2}
    with pytest.raises(KeyError, match="gone"), manager.pipeline() as pipeline:
        later = pipeline(shared)
        del later["gone"]
        later["c"] = 3
    assert shared["c"] == 3


def test_numbers_that_lua_cannot_add_are_added_here(manager: Any) -> None:
    counts = manager.Counter(a=2**60)
    with manager.pipeline() as pipeline:
        sums = [pipeline(counts)._backend.dict_add(counts._container_id, "a", 1, 0)]
    assert sums[0].value == 2**60 + 1


def test_a_pipeline_waits_for_the_transaction_of_another(
    server: ValkeyServer, manager: Any
) -> None:
    log = manager.list(name="log")
    done = threading.Event()

    def send() -> None:
        with manager.pipeline() as pipeline:
            later = pipeline(manager.list(name="log"))
            for i in range(5):
                later.append(i)
        done.set()

    sender = threading.Thread(target=send)
    with manager.transaction():
        log.append("first")
        sender.start()
        wait_until(lambda: server.command("KEYS", "*:w:0"))
        assert not done.is_set()
    sender.join()
    assert list(log) == ["first", 0, 1, 2, 3, 4]


def test_a_pipeline_in_a_transaction_is_undone_with_it(manager: Any) -> None:
    log = manager.list()
    with pytest.raises(ZeroDivisionError), manager.transaction():
        with manager.pipeline() as pipeline:
            pipeline(log).append(1)
        assert list(log) == [1]
        raise ZeroDivisionError
    assert list(log) == []


def test_scripts_that_the_server_forgot_are_sent_again(server: ValkeyServer, manager: Any) -> None:
    shared = manager.dict()
    for turn in range(2):
        with manager.pipeline() as pipeline:
            later = pipeline(shared)
            later[turn] = turn
            found = later.get(turn)
        assert found.value == turn
        server.command("SCRIPT", "FLUSH")
    assert shared == {0: 0, 1: 1}


def test_a_pipeline_on_a_server_that_came_back_empty_says_so(
    server: ValkeyServer, manager: Any
) -> None:
    shared = manager.dict(a=1)
    server.restart()
    with pytest.raises(ContainerGone), manager.pipeline() as pipeline:
        pipeline(shared)["b"] = 2


def test_large_values_are_sent_in_pieces_and_in_order(manager: Any) -> None:
    log = manager.list()
    with manager.pipeline() as pipeline:
        later = pipeline(log)
        later.append("first")
        later.extend(range(10_000))
        later.append("last")
    assert [log[0], len(log), log[-1]] == ["first", 10_002, "last"]
