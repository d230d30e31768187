"""Clients that are killed, and connections that break: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from garrison.errors import ManagerLost
from garrison.manager.valkey import _wire
from garrison.manager.valkey._wire import Wire
from garrison.store import Kind, transaction
from valkey_server import ValkeyServer
from waiting import wait_until

from .store_audit import Audit, audit, new_store
from .store_clients import OPTIONS, Client, killed_after, storm_job

SEED = int(os.environ.get("GARRISON_STORM_SEED", "20261129"))
KILLS = int(os.environ.get("GARRISON_STORM_KILLS", "24"))
ITEMS = 300


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


POINTS: dict[str, Callable[[Any], None]] = {}


def point(name: str) -> Callable[[Callable[[Any], None]], None]:
    def add(arm: Callable[[Any], None]) -> None:
        POINTS[name] = arm

    return add


@point("request.made")
def _(monkey: Any) -> None:
    monkey.ask_many = die


@point("request.sent")
def _(monkey: Any) -> None:
    monkey._read = die


@point("reply.read")
def _(monkey: Any) -> None:
    plain = monkey.ask_many

    def ask_many(self: Any, commands: Any) -> Any:
        plain(self, commands)
        die()

    monkey.ask_many = ask_many


STEPS: dict[str, Callable[[Any, Any, Any], object]] = {
    "append": lambda _s, d, _q: d["list"].append([1, {"a": 2}]),
    "pop": lambda _s, d, _q: d.pop("list"),
    "create": lambda s, _d, _q: s.make(Kind.LIST, [1]),
    "refer": lambda _s, d, _q: d.__setitem__("again", d["shared"]),
    "put": lambda _s, _d, q: q.put([3]),
    "get": lambda _s, _d, q: q.get(),
    "claim": lambda _s, _d, q: q._backend.claim_first(q._container_id),
    "begin": lambda s, _d, _q: s.backend.begin(),
}
IN_TRANSACTION: dict[str, Callable[[Any, Any, Any], object]] = {
    "write": lambda _s, d, _q: d["list"].append([1, {"a": 2}]),
    "claim": lambda _s, _d, q: q._backend.claim_first(q._container_id),
    "abort": lambda s, _d, _q: s.backend.abort(),
    "commit": lambda s, _d, _q: s.backend.commit(),
}
ALL_STEPS = [
    *((name, False) for name in STEPS),
    *((name, True) for name in IN_TRANSACTION),
]


def owners(server: ValkeyServer) -> int:
    return int(server.command("ZCARD", "{garrison}:s:own"))


@pytest.mark.parametrize("at", ["request.made", "request.sent", "reply.read"])
@pytest.mark.parametrize(("name", "inside"), ALL_STEPS)
def test_a_step_is_done_or_not_wherever_its_client_is_killed(
    server: ValkeyServer, at: str, name: str, inside: bool
) -> None:
    store = new_store(server)
    shared = store.make(Kind.LIST, [1])
    d = store.make(Kind.DICT, {"list": [[0]], "shared": shared}, name="d")
    queue = store.make(Kind.QUEUE, name="q")
    queue.put_many([[1], 2])
    before, waiting = d.copy(), queue._backend.snapshot(queue._container_id)

    def work(theirs: Any, _: object) -> None:
        named = theirs.make(Kind.DICT, name="d"), theirs.make(Kind.QUEUE, name="q")
        for each in named[0].values():  # containers that it holds when it dies
            assert each
        if inside:
            theirs.backend.begin()
            named[0]["list"].clear()
            named[1].get()
        step = (IN_TRANSACTION if inside else STEPS)[name]
        POINTS[at](Wire)
        step(theirs, *named)

    assert Client(server, work).end() == (-signal.SIGKILL, [])
    if inside and not (name == "commit" and at != "request.made"):
        wait_until(lambda: d.copy() == before)
        assert queue._backend.snapshot(queue._container_id) == waiting
    elif name == "commit":
        assert d["list"] == []
    elif name == "claim":
        wait_until(lambda: queue.qsize() == len(waiting))
        assert queue._backend.snapshot(queue._container_id) == waiting
    store.backend.renew()
    wait_until(lambda: store.backend.renew() or owners(server) == 1)
    assert audit(server) == []
    store.link.close()


def containers_with_a_name(server: ValkeyServer) -> set[int]:
    found = Audit(server)
    assert found.problems == []
    return {number for number, head in found.heads.items() if b"n" in head}


def test_clients_killed_in_a_storm_lose_nothing(server: ValkeyServer) -> None:
    chance = random.Random(SEED)
    store = new_store(server)
    for name in ("waiting", "claimed"):
        store.make(Kind.QUEUE, name=name).put_many(range(ITEMS))
    counter = store.make(Kind.COUNTER, {"left": 0, "right": 0}, name="counter")
    told: list[str] = []
    kills: Counter[str] = Counter()
    running = [_start(server, i, chance) for i in range(3)]
    for i in range(KILLS):
        name, client = running.pop(0)
        code, lines = killed_after(chance.uniform(0.02, 0.15), client)
        assert code == -signal.SIGKILL
        kills[name] += 1
        told += lines
        running.append(_start(server, 3 + i, chance))
    for name, client in running:
        client.kill()
        told += client.end()[1]
        kills[name] += 1
    wait_until(lambda: store.backend.renew() or owners(server) == 1)
    assert audit(server) == [], f"seed {SEED}"
    _check_what_was_told(store, told, kills)
    assert counter["left"] + counter["right"] == 0
    done, waiting = store.make(Kind.LIST, name="done"), store.make(Kind.QUEUE, name="waiting")
    moved = [*done, *waiting._backend.snapshot(waiting._container_id)]
    assert sorted(moved) == list(range(ITEMS)), f"seed {SEED}"
    claimed, seen = store.make(Kind.QUEUE, name="claimed"), store.make(Kind.LIST, name="seen")
    left = claimed._backend.snapshot(claimed._container_id)
    assert len(set(left)) == len(left)
    assert {*left, *seen} == set(range(ITEMS)), f"seed {SEED}"
    _check_only_named_are_left(store, server)
    store.link.close()


def _start(server: ValkeyServer, i: int, chance: random.Random) -> tuple[str, Client]:
    name = f"client {i}"
    return name, Client(server, storm_job(name, chance.randrange(1 << 30)))


def _check_what_was_told(store: Any, told: list[str], kills: Counter[str]) -> None:
    """What was reported is there; beyond that there is one step of each killed client at most."""
    appended = list(store.make(Kind.LIST, name="appended"))
    reported = [line.removeprefix("append ") for line in told if line.startswith("append")]
    assert len(set(appended)) == len(appended)
    assert set(reported) <= set(appended)
    assert len(appended) - len(reported) <= kills.total()
    counts = sum(1 for line in told if line.startswith("count"))
    counted = [n for key, n in store.make(Kind.COUNTER, name="counter").items() if " " in key]
    assert 0 <= sum(counted) - counts <= kills.total()
    done = list(store.make(Kind.LIST, name="done"))
    assert {int(line.split()[1]) for line in told if line.startswith("done")} <= set(done)


def _check_only_named_are_left(store: Any, server: ValkeyServer) -> None:
    tree = store.make(Kind.DICT, name="tree")
    tree.clear()
    store.backend.collect_garbage()
    found = Audit(server)
    assert found.check() == []
    assert [n for n, head in found.heads.items() if b"n" not in head] == []


def test_broken_connections_do_each_step_once(server: ValkeyServer) -> None:
    store = new_store(server)
    counter = store.make(Kind.COUNTER, name="c")
    items = store.make(Kind.LIST, name="l")
    queue = store.make(Kind.QUEUE, name="q")
    over = threading.Event()
    broken: list[int] = []

    def break_connections() -> None:
        while not over.wait(0.005):
            broken.append(server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))

    thread = threading.Thread(target=break_connections)
    thread.start()
    try:
        for n in range(150):
            counter.add("x")
            items.append(n)
            queue.put(n)
            with transaction(store.backend):
                counter.add("y")
                items.append(-queue.get())
            if n % 2:
                assert items.pop() == -n
    finally:
        over.set()
        thread.join()
    assert sum(broken) > 20
    assert counter == {"x": 150, "y": 150}
    assert [n for n in items if n > 0] == list(range(1, 150))
    assert queue.empty()
    assert audit(server) == []
    store.link.close()


def test_claims_of_a_dead_client_come_back_in_their_order(server: ValkeyServer) -> None:
    store = new_store(server, OPTIONS)
    queue = store.make(Kind.QUEUE, name="q")
    queue.put_many(range(5))

    def work(theirs: Any, _: object) -> None:
        mine = theirs.make(Kind.QUEUE, name="q")
        for _ in range(3):
            mine._backend.claim_first(mine._container_id)
        signal.pause()

    client = Client(server, work)
    wait_until(lambda: queue.qsize() == 2)
    client.kill()
    client.end()
    assert [queue.get(), queue.get()] == [3, 4]
    # Nobody writes meanwhile: this client's own thread gives the claims back, and wakes it.
    assert [queue.get(timeout=60) for _ in range(3)] == [0, 1, 2]
    store.link.close()


def test_paused_client_takes_its_references_anew(server: ValkeyServer) -> None:
    store = new_store(server)
    numbers = store.make(Kind.LIST, name="numbers")

    def work(theirs: Any, tell: Callable[[str], None]) -> None:
        held = theirs.make(Kind.DICT, {"a": [1]})
        theirs.make(Kind.LIST, name="numbers").append(held._container_id)
        wait_until(lambda: len(theirs.make(Kind.LIST, name="numbers")) == 2, 60)
        tell(str(held["a"]))
        held["b"] = 2
        tell(str(held))

    client = Client(server, work)
    wait_until(lambda: len(numbers) == 1)
    os.kill(client.pid, signal.SIGSTOP)
    head = f"{{garrison}}:s:h:{numbers[0]}"
    wait_until(lambda: store.backend.renew() or server.command("HGET", head, "R") == b"0")
    os.kill(client.pid, signal.SIGCONT)
    wait_until(lambda: server.command("HGET", head, "R") == b"1")
    store.backend.collect_garbage()
    numbers.append("go on")
    assert client.end() == (0, ["[1]", "{'a': [1], 'b': 2}"])
    assert audit(server) == []
    store.link.close()


@pytest.mark.parametrize("at", ["_packed", "_read"])
@pytest.mark.parametrize("method", ["get", "claim"])
def test_interrupted_request_takes_no_item(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch, method: str, at: str
) -> None:
    store = new_store(server)
    queue = store.make(Kind.JOINABLE_QUEUE, name="q")
    queue.put_many([{"a": [1]}, 2])
    queue.qsize()

    def interrupt(*_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    place: Any = _wire if at == "_packed" else Wire
    monkeypatch.setattr(place, at, interrupt)
    with pytest.raises(KeyboardInterrupt):
        queue.get() if method == "get" else queue.claim().__enter__()
    assert queue.get() == {"a": [1]}
    queue.task_done()
    assert queue.get() == 2
    queue.task_done()
    queue.join(timeout=0)
    assert audit(server) == []
    store.link.close()


def test_process_that_ends_in_a_transaction_is_not_waited_for(server: ValkeyServer) -> None:
    store, other = new_store(server), new_store(server)
    items, theirs = (each.make(Kind.LIST, [1], name="items") for each in (store, other))
    store.backend.begin()
    items.append(2)
    store.link.close()
    assert not server.command("EXISTS", "{garrison}:s:tx")
    theirs.append(3)
    assert theirs == [1, 3]
    other.link.close()


def test_waiting_get_survives_a_broken_connection(server: ValkeyServer) -> None:
    store, other = new_store(server), new_store(server)
    queue, theirs = (each.make(Kind.QUEUE, name="q") for each in (store, other))
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(queue.get(timeout=60)))
    thread.start()
    waiters = f"{{garrison}}:s:w:{queue._container_id}"
    for _ in range(3):
        wait_until(lambda: server.command("EXISTS", waiters))
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    theirs.put(7)
    thread.join()
    assert got == [7]
    for each in (store, other):
        each.link.close()


def test_request_that_comes_twice_is_carried_out_once(server: ValkeyServer) -> None:
    store = new_store(server)
    backend, items = store.backend, store.make(Kind.LIST, name="l")
    first, second = (backend._thread.next_request() for _ in range(2))
    append = items._container_id, 0, backend.values.value("x")
    for _ in range(3):
        backend._send("list_extend", append, None, first)
    assert items == ["x"]
    popped = [backend._send("list_pop", (items._container_id, 0), None, second) for _ in range(2)]
    assert popped == [backend.values.value("x")] * 2
    with pytest.raises(ManagerLost, match="late"):  # it was delayed in the network
        backend._send("list_extend", append, None, first)
    assert items == []
    store.link.close()
