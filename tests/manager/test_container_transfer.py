"""Containers are sent between processes, and freed with their last user."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison.net._limits import Limits
from waiting import wait_until

from . import processes
from .processes import KEY, RemoteProcess, break_connections

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def local_manager() -> Iterator[Any]:
    with garrison.Manager(
        ("127.0.0.1", 0), key=KEY, limits=Limits(reconnect_grace_s=0.2)
    ) as manager:
        yield manager
    vars(manager).clear()  # pytest keeps it for a while


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return garrison.get_context(request.param)


@pytest.fixture(params=["local", "remote"])
def manager(request: pytest.FixtureRequest, local_manager: Any, client: Any) -> Any:
    return {"local": local_manager, "remote": client}[request.param]


def containers(local_manager: Any) -> int:
    return int(local_manager.store.backend.statistics()["containers"])


def write(shared: Any, *more: Any) -> None:
    shared["child"] = os.getpid()
    for each in more:
        each.append("child")


def take_and_write(sent: Any, known: Any) -> None:
    shared = sent.get(timeout=20)
    shared["child"] = shared.pop("number") + 1


def give(sent: Any, manager: Any) -> None:
    sent.put(manager.dict(number=1))


def hold_until_killed(shared: Any, told: Any) -> None:
    told.put(len(shared))
    signal.pause()


def test_container_is_an_argument_of_a_process(manager: Any, context: Any) -> None:
    shared, items = manager.dict(parent=1), manager.list()
    child = context.Process(target=write, args=(shared, items))
    child.start()
    child.join()
    assert (child.exitcode, shared["child"], items) == (0, child.pid, ["child"])


def test_container_outlives_its_sender_reference_in_the_child(
    manager: Any, local_manager: Any, context: Any
) -> None:
    before = containers(local_manager)
    told = context.Queue()
    child = context.Process(target=hold_until_killed, args=(manager.dict(a=1), told))
    child.start()
    gc.collect()
    assert told.get(timeout=20) == 1
    gc.collect()
    assert containers(local_manager) > before
    child.kill()
    child.join()
    wait_until(lambda: containers(local_manager) == before)


def test_container_is_sent_through_a_queue(manager: Any, context: Any) -> None:
    sent = context.Queue()
    kept = manager.dict(number=6)
    # What it is started with tells it the key as well, which is in no queue.
    child = context.Process(target=take_and_write, args=(sent, manager.list()))
    child.start()
    sent.put(kept)
    child.join()
    assert (child.exitcode, kept) == (0, {"child": 7})


def test_container_is_sent_through_a_managers_queue(local_manager: Any, client: Any) -> None:
    """Stored, it is a reference, which anybody can follow."""
    for giver, taker in (
        (local_manager, client),
        (client, local_manager),
        (client, client),
        (local_manager, local_manager),
    ):
        jobs = giver.Queue()
        stock = giver.dict(n=1)
        jobs.put(stock)
        if giver is not taker:
            taker.Queue("ways").put(1)
        found = jobs.get()
        found["n"] += 1
        assert stock == {"n": 2}


def test_stored_reference_is_the_same_container_for_all(local_manager: Any, client: Any) -> None:
    inner = client.dict(n=1)
    client.dict("outer")["inner"] = inner
    found = local_manager.dict("outer")["inner"]
    found["n"] += 1
    assert inner == {"n": 2}
    del inner
    gc.collect()
    assert client.dict("outer")["inner"]["n"] == 2
    client.dict("outer").clear()
    assert found == {"n": 2}


def test_container_is_freed_with_its_last_reference(manager: Any, local_manager: Any) -> None:
    before = containers(local_manager)
    shared = manager.dict(inner={"a": [1]})
    again, inner = shared, shared["inner"]
    assert containers(local_manager) == before + 3
    del shared
    gc.collect()
    assert inner == {"a": [1]}
    del again, inner
    gc.collect()
    wait_until(lambda: containers(local_manager) == before)


def test_references_from_containers_are_counted(manager: Any, local_manager: Any) -> None:
    before = containers(local_manager)
    holder = manager.list(name="holder")
    holder.append(manager.dict(a=1))
    sent = [holder[0] for _ in range(5)]
    holder.pop()
    del sent[1:]
    gc.collect()
    assert sent[0] == {"a": 1}
    sent.clear()
    gc.collect()
    wait_until(lambda: containers(local_manager) == before + 1)


def test_container_is_freed_when_its_last_client_is_killed(local_manager: Any) -> None:
    before = containers(local_manager)
    with RemoteProcess() as process:
        process.do(processes.connect, local_manager.address)
        process.do(processes.get, "dict", {"a": 1})
        assert containers(local_manager) == before + 1
        process.kill()
        wait_until(lambda: containers(local_manager) == before)


def test_container_is_freed_when_its_last_process_is_killed(local_manager: Any) -> None:
    before = containers(local_manager)
    with RemoteProcess() as process:
        process.do(processes.connect, local_manager.address, KEY)
        process.do(connect_locally, local_manager.address)
        assert process.do(processes.get, "dict", {"a": 1}) is None
        assert containers(local_manager) == before + 1
        process.kill()
        wait_until(lambda: containers(local_manager) == before)


def connect_locally(state: Any, address: Any) -> None:
    state.client = garrison.connect(address, KEY)
    assert state.client.store.is_local


def test_forked_child_keeps_a_container_its_parent_dropped(
    manager: Any, local_manager: Any
) -> None:
    context = garrison.get_context("fork")
    told = context.Queue()
    shared = manager.dict(a=1)
    child = context.Process(target=hold_until_killed, args=(shared, told))
    child.start()
    assert told.get(timeout=20) == 1
    before = containers(local_manager)
    del shared
    gc.collect()
    # Longer than it takes to free it.
    client = manager.Queue()
    with pytest.raises(Exception):  # noqa: B017, PT011
        client.get(timeout=2.5)
    assert containers(local_manager) == before + 1
    child.kill()
    child.join()
    wait_until(lambda: containers(local_manager) <= before)


def test_references_survive_a_reconnection(local_manager: Any, client: Any) -> None:
    shared = client.dict(a=1)
    break_connections(client.address)
    client.dict("reconnect")
    wait = client.Queue("wait")
    with pytest.raises(Exception):  # noqa: B017, PT011
        wait.get(timeout=2.5)
    assert shared == {"a": 1}
    before = containers(local_manager)
    del shared
    gc.collect()
    wait_until(lambda: containers(local_manager) == before - 1)
