"""Transactions on a server: what others see, and what is left if the writer is lost."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter, deque
from typing import Any

import pytest

from garrison.errors import TransactionFailed
from garrison.store import Kind, transaction
from valkey_server import ValkeyServer
from waiting import wait_until

from .store_audit import audit, dump, new_store

KINDS: dict[int, Any] = {
    Kind.DICT: {"a": 1, "b": {"c": [1]}, True: "t", (1, "x"): None},
    Kind.LIST: [*range(200), [1], {"x": {2}}],
    Kind.SET: {1, "a", (2, 3)},
    Kind.DEQUE: deque([1, [2], 3], 6),
    Kind.COUNTER: Counter("aab"),
}


def contents(store: Any) -> dict[int, Any]:
    return {kind: store.make(kind, name=f"kind {int(kind)}")._getvalue() for kind in KINDS}


def make_all(store: Any) -> dict[int, Any]:
    made = {kind: store.make(kind, each, name=f"kind {int(kind)}") for kind, each in KINDS.items()}
    made[Kind.QUEUE] = store.make(Kind.QUEUE, name="queue")
    made[Kind.QUEUE].put_many([1, [2], 3, 4])
    return made


class Changes:
    """Random changes of all kinds of containers."""

    def __init__(self, made: dict[int, Any], chance: random.Random) -> None:
        self.made, self.chance = made, chance

    def value(self) -> Any:
        plain: list[Any] = [None, 1, 2.5, "text", b"b" * 300, [1, [2]], {"k": {"v": 1}}, {1, 2}]
        shared = [self.made[Kind.DICT], self.made[Kind.LIST]]
        return self.chance.choice([*plain, self.chance.choice(shared)])

    def key(self) -> Any:
        return self.chance.choice(["a", "b", "c", 1, True, 2.0, (1, "x"), None, "k" * 500])

    def index(self) -> int:
        return self.chance.randrange(-4, 4) if self.chance.random() < 0.5 else 100

    def change(self) -> None:
        step = self.chance.choice(
            [self.on_dict, self.on_list, self.on_set, self.on_deque, self.on_counter, self.on_queue]
        )
        with contextlib.suppress(KeyError, IndexError):
            step()

    def pick(self, *calls: Any) -> None:
        self.chance.choice(calls)()

    def on_dict(self) -> None:
        d, key = self.made[Kind.DICT], self.key()
        self.pick(
            lambda: d.__setitem__(key, self.value()),
            lambda: d.pop(key),
            lambda: d.__delitem__(key),
            lambda: d.update({self.key(): self.value() for _ in range(5)}),
            lambda: d.setdefault(key, self.value()),
            lambda: d.popitem(last=self.chance.random() < 0.5),
            lambda: d.add("number", 1, 0),
            lambda: d.clear() if self.chance.random() < 0.2 else None,
        )

    def on_list(self) -> None:
        items, i = self.made[Kind.LIST], self.index()
        self.pick(
            lambda: items.append(self.value()),
            lambda: items.insert(i, self.value()),
            lambda: items.__setitem__(i, self.value()),
            lambda: items.pop(i),
            lambda: items.__delitem__(i),
            lambda: items.extend([self.value() for _ in range(4)]),
            lambda: items.__setitem__(slice(i, i + 3), [self.value(), *items[i : i + 3]]),
            items.reverse,
            lambda: items.clear() if self.chance.random() < 0.2 else None,
        )

    def on_set(self) -> None:
        members = self.made[Kind.SET]
        self.pick(
            lambda: members.add(self.key()),
            lambda: members.discard(self.key()),
            members.pop,
            lambda: members.update([self.key(), self.key()]),
        )

    def on_deque(self) -> None:
        d = self.made[Kind.DEQUE]
        self.pick(
            lambda: d.append(self.value()),
            lambda: d.appendleft(self.value()),
            d.pop,
            d.popleft,
            lambda: d.rotate(2),
            lambda: d.extendleft([self.value(), 1]),
        )

    def on_counter(self) -> None:
        self.pick(
            lambda: self.made[Kind.COUNTER].update("abc"),
            lambda: self.made[Kind.COUNTER].add("z", 2),
        )

    def on_queue(self) -> None:
        queue = self.made[Kind.QUEUE]
        self.pick(
            lambda: queue.put(self.value()),
            lambda: queue.empty() or queue.get(block=False),
            lambda: self.claim(queue),
        )

    def claim(self, queue: Any) -> None:
        if queue.empty():
            return
        ticket, _ = queue._backend.claim_first(queue._container_id)
        if self.chance.random() < 0.6:
            self.pick(
                lambda: queue._backend.ack_claim(queue._container_id, ticket),
                lambda: queue._backend.return_claim(queue._container_id, ticket),
            )


@pytest.mark.parametrize("seed", range(6))
def test_others_see_the_state_before_and_an_abort_restores_it(
    server: ValkeyServer, stores: list[Any], seed: int
) -> None:
    writer, reader = stores
    made, chance = make_all(writer), random.Random(seed)
    changes = Changes(made, chance)
    opened = {kind: reader.make(kind, name=f"kind {int(kind)}") for kind in KINDS}

    def seen() -> dict[int, Any]:
        return {kind: each._getvalue() for kind, each in opened.items()}

    for _ in range(3):
        for _ in range(20):
            changes.change()
        before, stored = seen(), dump(server)
        writer.backend.begin()
        for _ in range(30):
            changes.change()
            if chance.random() < 0.2:
                assert seen() == before
                probe = made[Kind.DICT]
                assert reader.backend.length(probe._container_id) == len(before[Kind.DICT])
        inside = {kind: made[kind]._getvalue() for kind in KINDS}
        if chance.random() < 0.5:
            writer.backend.abort()
            assert seen() == before
            assert dump(server) == stored
        else:
            writer.backend.commit()
            assert seen() == inside
        made_ids = {each._container_id for each in made.values()}
        assert [each for each in audit(server) if _is_of(each, made_ids)] == []
        assert audit(server) == []


def _is_of(problem: str, numbers: set[int]) -> bool:
    return any(str(number) in problem for number in numbers)


def test_waiting_writer_is_woken_by_the_commit(stores: list[Any]) -> None:
    a, b = (store.make(Kind.LIST, name="items") for store in stores)
    woken: list[float] = []

    def write() -> None:
        b.append("second")
        woken.append(time.monotonic())

    with transaction(stores[0].backend):
        a.append("first")
        thread = threading.Thread(target=write)
        thread.start()
        wait_until(lambda: stores[1].link.execute("EXISTS", "{garrison}:s:w:0"))
    done = time.monotonic()
    thread.join()
    assert a == ["first", "second"]
    assert woken[0] - done < 5  # the lease would have lasted for 10 s


def test_begin_has_a_timeout(stores: list[Any]) -> None:
    with transaction(stores[0].backend):
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError), transaction(stores[1].backend, timeout):
                pytest.fail("two transactions at once")


def test_writer_without_a_lease_changes_nothing(server: ValkeyServer) -> None:
    paused, other = new_store(server, "lease=0.2"), new_store(server)
    mine, theirs = (each.make(Kind.DICT, {"a": 1}, name="d") for each in (paused, other))
    block = transaction(paused.backend)
    with pytest.raises(TransactionFailed, match="lease was over"), block:
        mine["a"] = 2
        paused.backend.fences.clear()  # as if its threads were stopped
        theirs["b"] = 3  # waits for the end of the lease
        assert theirs == {"a": 1, "b": 3}
        mine["a"] = 4
    assert theirs == mine == {"a": 1, "b": 3}
    with pytest.raises(TransactionFailed, match="lease was over"), transaction(paused.backend):
        mine["a"] = 2
        paused.backend.fences.clear()
        theirs.pop("b")
    assert theirs == {"a": 1}
    with transaction(paused.backend):
        mine["a"] = 5
    assert theirs == {"a": 5}
    for each in (paused, other):
        each.link.close()


def test_reader_undoes_what_a_lost_writer_has_left(server: ValkeyServer) -> None:
    lost, other = new_store(server, "lease=0.2"), new_store(server)
    mine, theirs = (each.make(Kind.DICT, {"a": [1]}, name="d") for each in (lost, other))
    before = dump(server)
    lost.backend.begin()
    mine["a"].append(2)
    del mine["a"]
    lost.backend.fences.clear()
    wait_until(lambda: theirs.copy() == {"a": [1]} and dump(server) == before)
    assert audit(server) == []
    lost.backend.abort()
    for each in (lost, other):
        each.link.close()


def test_large_updates_are_one_step(stores: list[Any]) -> None:
    writer, reader = (store.make(Kind.DICT, name="d") for store in stores)
    sizes = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            sizes.add(len(reader))

    thread = threading.Thread(target=look)
    thread.start()
    writer.update({n: n for n in range(20_000)})
    done.set()
    thread.join()
    assert sizes <= {0, 20_000}
    assert dict(reader.items()) == {n: n for n in range(20_000)}


def test_reader_waits_for_a_transaction_that_has_done_much(stores: list[Any]) -> None:
    d, theirs = (store.make(Kind.DICT, {"a": 0}, name="d") for store in stores)
    other = stores[1].make(Kind.DICT, {"b": 1}, name="other")
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(theirs["a"]))
    with transaction(stores[0].backend):
        d.update({n: n for n in range(3_000)})
        thread.start()
        wait_until(lambda: stores[1].link.execute("EXISTS", "{garrison}:s:w:0"))
        assert other == {"b": 1}
        d["a"] = 1
        assert d["a"] == 1
    thread.join()
    assert seen == [1]


def test_large_slices_are_replaced_in_one_step(stores: list[Any]) -> None:
    items, theirs = (store.make(Kind.LIST, name="l") for store in stores)
    items[:] = range(10_000)
    items[5:9_000] = range(20_000)
    expected = [*range(5), *range(20_000), *range(9_000, 10_000)]
    assert list(theirs) == expected
    assert list(reversed(theirs)) == expected[::-1]
    items[:] = [[n] for n in range(100)] + [0] * 5_000
    items[:] = [*items[100:], *items[:100]]
    assert theirs[-1] == [99]
    theirs[-1].append("its own child still")
    assert items.pop() == [99, "its own child still"]


def test_transaction_may_wait_for_a_reader(stores: list[Any]) -> None:
    d, theirs = (store.make(Kind.DICT, {"a": 0}, name="d") for store in stores)
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend((theirs["a"], theirs.copy())))
    with transaction(stores[0].backend):
        d.update({n: n for n in range(3_000)})
        d["a"] = 1
        thread.start()
        thread.join()
    assert seen == [0, {"a": 0}]


def test_names_and_other_containers_are_read_beside_a_large_transaction(stores: list[Any]) -> None:
    d = stores[0].make(Kind.DICT, name="d")
    plain = stores[1].make(Kind.DICT, {"a": 1}, name="plain")
    with transaction(stores[0].backend):
        d.update({n: n for n in range(3_000)})
        d["inner"] = [1]
        assert stores[1].make(Kind.DICT, name="plain") == plain == {"a": 1}
        assert plain.copy() == {"a": 1}
    with transaction(stores[0].backend):
        stores[0].make(Kind.LIST, [1], name="new")
        assert [name for name, _, _ in stores[1].backend.names()] == ["d", "plain"]
    assert [name for name, _, _ in stores[1].backend.names()] == ["d", "new", "plain"]


def test_large_containers_are_copied_in_parts(stores: list[Any]) -> None:
    store = stores[0]
    pairs = {n: str(n) for n in range(6_000)}
    assert store.make(Kind.DICT, pairs).copy() == pairs
    assert store.make(Kind.SET, pairs)._getvalue() == set(pairs)
    assert store.make(Kind.LIST, pairs)._getvalue() == list(pairs)
    kept = store.make(Kind.DEQUE, pairs, 5_500)._getvalue()
    assert kept == deque(pairs, 5_500)
    assert kept.maxlen == 5_500
    mixed: dict[Any, Any] = {"a": [1], **pairs}
    assert store.make(Kind.DICT, mixed).copy() == mixed
