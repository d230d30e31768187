"""Servers that are full, refuse a user, lose their data, or are replaced."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from garrison.errors import ContainerGone, StoreFull
from garrison.store import Kind, transaction
from valkey_server import ValkeyServer, cluster, primary_with_replica
from waiting import wait_until

from .store_audit import audit, dump, new_store
from .store_clients import Client
from .test_store_transactions import contents, make_all


def fill_up(items: Any) -> int:
    """Append until the server is full; return how often that went well."""
    done = 0
    with pytest.raises(StoreFull, match="no memory left for list_extend"):
        while True:
            items.append(b"x" * 20_000)
            done += 1
    return done


def takes_a_write(d: Any) -> bool:
    try:
        d["b"] = 2
    except StoreFull:
        return False
    return True


def test_full_server_keeps_what_it_has_and_lets_it_be_removed() -> None:
    with ValkeyServer(("maxmemory", "8mb")) as server:
        store = new_store(server)
        items, d = store.make(Kind.LIST, name="items"), store.make(Kind.DICT, {"a": 1}, name="d")
        done = fill_up(items)
        assert len(items) == done > 10
        with pytest.raises(StoreFull):
            d["b"] = b"x" * 20_000
        with pytest.raises(StoreFull):
            store.make(Kind.DICT, {"a": 1})
        assert d.copy() == {"a": 1}
        assert items.pop() == b"x" * 20_000
        del items[0]
        items.clear()
        wait_until(lambda: takes_a_write(d))  # the server frees memory in the background
        assert (d, items) == ({"a": 1, "b": 2}, [])
        assert audit(server) == []
        store.link.close()


def test_transaction_on_a_full_server_is_undone() -> None:
    with ValkeyServer(("maxmemory", "8mb")) as server:
        store, other = new_store(server), new_store(server)
        items, theirs = (each.make(Kind.LIST, [1], name="items") for each in (store, other))
        before = dump(server)
        with pytest.raises(StoreFull), transaction(store.backend):
            items.clear()
            while True:
                items.append(b"x" * 20_000)
                assert theirs == [1]
        assert items == theirs == [1]
        assert dump(server) == before

        def die(mine: Any, _: object) -> None:
            mine.backend.begin()
            fill_up(mine.make(Kind.LIST, name="items"))
            signal.raise_signal(signal.SIGKILL)

        Client(server, die).end()
        wait_until(lambda: theirs == [1] and dump(server) == before)
        assert audit(server) == []
        for each in (store, other):
            each.link.close()


def test_user_that_only_reads_is_refused_writes(server: ValkeyServer) -> None:
    store = new_store(server)
    store.make(Kind.DICT, {"a": [1]}, name="d")
    rights = ("~{garrison}:*", "+@read", "+@scripting", "+@connection", "+info")
    server.command("ACL", "SETUSER", "reader", "on", ">secret", *rights)
    reader = _store_of(server.url(login="reader:secret"))
    d = reader.make(Kind.DICT, name="d")
    assert d.copy() == {"a": [1]}
    assert d["a"][0] == 1
    with pytest.raises(PermissionError, match="'reader' may not do"):
        d["b"] = 1
    with pytest.raises(PermissionError):
        reader.make(Kind.DICT)
    assert d == {"a": [1]}
    for each in (store, reader):
        each.link.close()


def _store_of(url: str) -> Any:
    from garrison.manager.valkey._connection import Link
    from garrison.manager.valkey._store import ValkeyStore
    from garrison.manager.valkey._url import parse_url

    return ValkeyStore(Link(parse_url(url)))


def test_server_that_lost_its_data_begins_anew(server: ValkeyServer) -> None:
    store = new_store(server)
    old = [store.make(Kind.DICT, {"a": 1}, name="d"), store.make(Kind.LIST, [1])]
    server.restart()
    for each in old:
        with pytest.raises(ContainerGone):
            each._getvalue()
        with pytest.raises(ContainerGone):
            each.clear()
    again = [store.make(Kind.DICT, {"b": 2}, name="d"), store.make(Kind.LIST, [2])]
    assert again == [{"b": 2}, [2]]
    with pytest.raises(ContainerGone):
        old[1].append(1)
    with transaction(store.backend):
        again[1].append(3)
    assert audit(server) == []
    store.link.close()


def test_killed_server_has_what_was_acknowledged() -> None:
    options = (("appendonly", "yes"), ("appendfsync", "always"))
    with ValkeyServer(*options) as keeping:
        store, other = new_store(keeping, "lease=0.3"), new_store(keeping)
        make_all(store)
        before, stored = contents(store), dump(keeping)
        store.backend.begin()
        store.make(Kind.DICT, name="kind 1").clear()
        store.make(Kind.LIST, name="kind 2").append([1])
        store.backend.fences.clear()
        keeping.restart()
        wait_until(lambda: contents(other) == before and dump(keeping) == stored)
        assert audit(keeping) == []
        store.backend.abort()
        for each in (store, other):
            each.link.close()


def test_promoted_replica_goes_on() -> None:
    with primary_with_replica() as (primary, replica):
        url = f"valkey://{primary.place},{replica.place}/0?wait=1"
        store = _store_of(url)
        items = store.make(Kind.LIST, name="items")
        for n in range(50):
            items.append(n)
        with transaction(store.backend):
            items.append("in a transaction")
        primary.kill()
        replica.command("REPLICAOF", "NO", "ONE")
        assert list(items) == [*range(50), "in a transaction"]
        assert audit(replica) == []
        store.link.close()


@pytest.mark.watchdog(120)
def test_cluster_keeps_a_store_on_one_node() -> None:
    with cluster() as nodes:
        store = _store_of(nodes[0].url(scheme="valkey+cluster"))
        make_all(store)
        before = contents(store)
        with pytest.raises(ZeroDivisionError), transaction(store.backend):
            store.make(Kind.DICT, name="kind 1").pop("b")
            store.make(Kind.QUEUE, name="queue").get()
            1 / 0  # noqa: B018
        assert contents(store) == before
        with transaction(store.backend):
            store.make(Kind.DICT, name="kind 1")["new"] = {"a": [1]}
        assert store.make(Kind.DICT, name="kind 1")["new"]["a"] == [1]
        sizes = [node.command("DBSIZE") for node in nodes]
        assert sorted(sizes)[:2] == [0, 0]
        store.link.close()
