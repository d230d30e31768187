"""Faces on their way between processes, and containers that are freed with the last of them."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison.net._limits import Limits

from . import afar
from .afar import KEY, Actor, until

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def home() -> Iterator[Any]:
    with garrison.Manager(
        ("127.0.0.1", 0), key=KEY, limits=Limits(reconnect_grace_s=0.2)
    ) as manager:
        yield manager
    vars(manager).clear()  # pytest keeps it for a while


@pytest.fixture
def client(home: Any) -> Iterator[Any]:
    with garrison.connect(home.address, KEY, direct=False) as connected:
        yield connected


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return garrison.get_context(request.param)


@pytest.fixture(params=["near", "far"])
def manager(request: pytest.FixtureRequest, home: Any, client: Any) -> Any:
    return {"near": home, "far": client}[request.param]


def containers(home: Any) -> int:
    return int(home.store.backend.statistics()["containers"])


def write(face: Any, *more: Any) -> None:
    face["child"] = os.getpid()
    for each in more:
        each.append("child")


def take_and_write(faces: Any, known: Any) -> None:
    face = faces.get(timeout=20)
    face["child"] = face.pop("number") + 1


def give(faces: Any, manager: Any) -> None:
    faces.put(manager.dict(number=1))


def hold_until_killed(face: Any, told: Any) -> None:
    told.put(len(face))
    signal.pause()


def test_as_an_argument_of_a_process(manager: Any, context: Any) -> None:
    face, items = manager.dict(parent=1), manager.list()
    child = context.Process(target=write, args=(face, items))
    child.start()
    child.join()
    assert (child.exitcode, face["child"], items) == (0, child.pid, ["child"])


def test_let_go_of_as_soon_as_it_is_given(manager: Any, home: Any, context: Any) -> None:
    before = containers(home)
    told = context.Queue()
    child = context.Process(target=hold_until_killed, args=(manager.dict(a=1), told))
    child.start()
    gc.collect()
    assert told.get(timeout=20) == 1
    gc.collect()
    assert containers(home) > before
    child.kill()
    child.join()
    until(lambda: containers(home) == before)


def test_through_a_queue(manager: Any, context: Any) -> None:
    faces = context.Queue()
    kept = manager.dict(number=6)
    # What it is started with tells it the key as well, which is in no queue.
    child = context.Process(target=take_and_write, args=(faces, manager.list()))
    child.start()
    faces.put(kept)
    child.join()
    assert (child.exitcode, kept) == (0, {"child": 7})


def test_through_a_queue_of_the_manager(home: Any, client: Any) -> None:
    """Stored, it is a reference, which anybody can follow."""
    for giver, taker in ((home, client), (client, home), (client, client), (home, home)):
        jobs = giver.Queue()
        stock = giver.dict(n=1)
        jobs.put(stock)
        if giver is not taker:
            taker.Queue("ways").put(1)
        found = jobs.get()
        found["n"] += 1
        assert stock == {"n": 2}


def test_a_reference_is_the_same_container_for_all(home: Any, client: Any) -> None:
    inner = client.dict(n=1)
    client.dict("outer")["inner"] = inner
    found = home.dict("outer")["inner"]
    found["n"] += 1
    assert inner == {"n": 2}
    del inner
    gc.collect()
    assert client.dict("outer")["inner"]["n"] == 2
    client.dict("outer").clear()
    assert found == {"n": 2}


def test_freed_with_the_last_face(manager: Any, home: Any) -> None:
    before = containers(home)
    face = manager.dict(inner={"a": [1]})
    again, inner = face, face["inner"]
    assert containers(home) == before + 3
    del face
    gc.collect()
    assert inner == {"a": [1]}
    del again, inner
    gc.collect()
    until(lambda: containers(home) == before)


def test_faces_of_faces_are_counted(manager: Any, home: Any) -> None:
    before = containers(home)
    holder = manager.list(name="holder")
    holder.append(manager.dict(a=1))
    faces = [holder[0] for _ in range(5)]
    holder.pop()
    del faces[1:]
    gc.collect()
    assert faces[0] == {"a": 1}
    faces.clear()
    gc.collect()
    until(lambda: containers(home) == before + 1)


def test_freed_when_the_last_client_is_killed(home: Any) -> None:
    before = containers(home)
    with Actor() as actor:
        actor.do(afar.connect, home.address)
        actor.do(afar.get, "dict", {"a": 1})
        assert containers(home) == before + 1
        actor.kill()
        until(lambda: containers(home) == before)


def test_freed_when_the_last_process_is_killed(home: Any) -> None:
    before = containers(home)
    with Actor() as actor:
        actor.do(afar.connect, home.address, KEY)
        actor.do(be_at_home, home.address)
        assert actor.do(afar.get, "dict", {"a": 1}) is None
        assert containers(home) == before + 1
        actor.kill()
        until(lambda: containers(home) == before)


def be_at_home(kept: Any, address: Any) -> None:
    kept.client = garrison.connect(address, KEY)
    assert kept.client.store.is_local


def test_a_forked_child_keeps_what_its_parent_lets_go_of(manager: Any, home: Any) -> None:
    context = garrison.get_context("fork")
    told = context.Queue()
    face = manager.dict(a=1)
    child = context.Process(target=hold_until_killed, args=(face, told))
    child.start()
    assert told.get(timeout=20) == 1
    before = containers(home)
    del face
    gc.collect()
    # Longer than it takes to free it.
    client = manager.Queue()
    with pytest.raises(Exception):  # noqa: B017, PT011
        client.get(timeout=2.5)
    assert containers(home) == before + 1
    child.kill()
    child.join()
    until(lambda: containers(home) <= before)


def test_what_is_held_survives_a_break(home: Any, client: Any) -> None:
    face = client.dict(a=1)
    client._lock_client.connection._link.close("it was cut")
    client.dict("reconnect")
    wait = client.Queue("wait")
    with pytest.raises(Exception):  # noqa: B017, PT011
        wait.get(timeout=2.5)
    assert face == {"a": 1}
    before = containers(home)
    del face
    gc.collect()
    until(lambda: containers(home) == before - 1)
