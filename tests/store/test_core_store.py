"""What the backend does, one operation after the other."""

from __future__ import annotations

import collections
import decimal
import os
import random
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison import _core
from garrison.errors import ContainerGone, StoreBusy, StoreVersion, WrongKind

from .tools import (
    DEQUE,
    DICT,
    LIST,
    QUEUE,
    SET,
    WORDS,
    Container,
    Hooks,
    Link,
    folder_place,
    open_store,
)

Store = _core.Store
HOOKS = Hooks(b"u" * 16)
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**100),
    0.0,
    1.5,
    float("inf"),
    "",
    "text",
    "\ud800 alone",
    "x" * 100_000,
    b"",
    b"bytes\x00",
    (1, "two", None),
    frozenset({1, "a"}),
    decimal.Decimal("1.5"),
]
KEYS = [*VALUES, ((1, (2, 3)), b"x"), ("x" * 500,), "k" * 255, "k" * 400, "k" * 399, b"\x00", 0.1]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_values_are_returned_as_stored(store: Store, value: Any) -> None:
    d = store.create(DICT)
    store.dict_set(d, "key", value)
    found = store.dict_get(d, "key")
    assert found == value
    assert type(found) is type(value)
    assert _core.decode_value(_core.encode_value(value, HOOKS), HOOKS) == value


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:20])
def test_keys_are_returned_as_stored(store: Store, key: Any) -> None:
    d = store.create(DICT)
    store.dict_set(d, key, "value")
    assert store.dict_get(d, key) == "value"
    assert store.dict_contains(d, key)
    (found,) = store.scan(d)
    assert found == key
    assert type(found) is type(key)
    assert _core.decode_key(*_core.encode_key(key, HOOKS), HOOKS) == key
    assert store.snapshot(d) == {key: "value"}


def test_keys_that_are_equal_are_one_and_the_first_stays(store: Store) -> None:
    d = store.create(DICT)
    for key in (1, 1.0, True):
        store.dict_set(d, key, key)
    assert [(k, type(k)) for k in store.scan(d)] == [(1, int)]
    assert store.dict_get(d, 1) is True
    store.dict_set(d, (True, 2), "tuple")
    assert store.dict_get(d, (1.0, 2)) == "tuple"
    assert list(store.scan(d)) == [1, (True, 2)]


def test_what_cannot_be_hashed_is_no_key(store: Store) -> None:
    d = store.create(DICT)
    with pytest.raises(TypeError, match="unhashable"):
        store.dict_set(d, [], 1)
    with pytest.raises(TypeError, match="unhashable"):
        store.dict_get(d, (1, []))


def test_a_missing_key_is_named(store: Store) -> None:
    d = store.create(DICT)
    for operation in (store.dict_get, store.dict_delete, store.dict_pop):
        with pytest.raises(KeyError) as caught:
            operation(d, (1, 2))
        assert caught.value.args == ((1, 2),)
    assert store.dict_get_or(d, "no", 7) == 7
    with pytest.raises(KeyError):
        store.dict_add(d, "no", 1)


def test_a_dict_keeps_the_order_of_insertion(store: Store) -> None:
    d = store.create(DICT)
    store.dict_update(d, [(key, key.upper()) for key in "zyxab"])
    store.dict_set(d, "x", "again")
    store.dict_delete(d, "y")
    store.dict_set(d, "y", "last")
    assert list(store.scan(d)) == ["z", "x", "a", "b", "y"]
    assert next(iter(store.scan(d, "items", True))) == ("y", "last")
    assert store.dict_popitem(d) == ("y", "last")
    assert store.dict_popitem(d, False) == ("z", "Z")
    assert store.dict_pop(d, "x") == "again"
    assert store.length(d) == 2
    store.clear(d)
    assert store.length(d) == 0
    assert list(store.scan(d)) == []
    with pytest.raises(KeyError, match="dictionary is empty"):
        store.dict_popitem(d)


def test_dict_add_adds_to_a_number(store: Store) -> None:
    d = store.create(DICT)
    assert store.dict_add(d, "n", 5, 0) == 5
    assert store.dict_add(d, "n", -7) == -2
    assert store.dict_add(d, "n", 0.5) == -1.5
    assert store.dict_add(d, "big", 1, 2**63 - 1) == 2**63
    assert store.dict_add(d, "big", 2**64) == 2**63 + 2**64
    assert store.dict_add(d, "big", -(2**64)) == 2**63
    assert store.dict_add(d, "big", -1) == 2**63 - 1
    store.dict_set(d, "text", "x")
    with pytest.raises(TypeError):
        store.dict_add(d, "text", 1)
    with pytest.raises(TypeError):
        store.dict_add(d, "n", "1")


def test_compare_and_set_replaces_the_expected_value(store: Store) -> None:
    d = store.create(DICT)
    one, two = (_core.encode_value(n, HOOKS) for n in (1, 2))
    assert store.dict_compare_and_set(d, "k", None, one)
    assert not store.dict_compare_and_set(d, "k", None, two)
    assert not store.dict_compare_and_set(d, "k", two, one)
    assert store.dict_compare_and_set(d, "k", one, two)
    assert store.dict_encoded(d, "k") == two
    assert store.dict_compare_and_set(d, "k", two, None)
    assert store.dict_encoded(d, "k") is None
    assert store.length(d) == 0


def test_set_operations(store: Store) -> None:
    s = store.create(SET)
    assert [store.set_add(s, key) for key in (1, "a", 1.0)] == [True, True, False]
    assert store.dict_contains(s, 1)
    assert list(store.scan(s)) == [1, "a"]
    assert store.set_discard(s, True)
    assert not store.set_discard(s, 1)
    assert store.snapshot(s) == {"a"}
    assert store.dict_popitem(s) == ("a", None)
    with pytest.raises(KeyError, match="empty set"):
        store.dict_popitem(s)


def test_operations_of_another_kind_are_refused(store: Store) -> None:
    d, s, a = store.create(DICT), store.create(SET), store.create(LIST)
    store.set_add(s, 1)
    refused: list[Callable[[], object]] = [
        lambda: store.dict_set(s, 1, 1),
        lambda: store.dict_set(s, 2, 1),
        lambda: store.dict_get(s, 1),
        lambda: store.dict_get(a, 1),
        lambda: store.dict_set(a, 1, 1),
        lambda: store.set_add(d, 1),
        lambda: store.list_append(d, 1),
        lambda: store.list_get(d, 0),
    ]
    for operation in refused:
        with pytest.raises(WrongKind):
            operation()
    with pytest.raises(ContainerGone):
        store.dict_get(999, 1)
    with pytest.raises(ContainerGone):
        store.dict_set(0, 1, 1)


def test_list_operations(store: Store) -> None:
    a = store.create(LIST)
    model: list[Any] = []
    store.list_extend(a, list(range(10)))
    model.extend(range(10))
    for i in (0, 5, 100, -1, -100, 3):
        store.list_insert(a, i, f"at {i}")
        model.insert(i, f"at {i}")
    assert store.snapshot(a) == model
    for i in (0, 3, -1, -4, 2, 8):
        store.list_delete(a, i)
        del model[i]
    assert store.snapshot(a) == model
    assert store.list_pop(a) == model.pop()
    assert store.list_pop(a, 1) == model.pop(1)
    store.list_replace(a, 2, 4, ["x"])
    model[2:4] = ["x"]
    store.list_replace(a, 1, 1, ["y", "z", "w"])
    model[1:1] = ["y", "z", "w"]
    assert store.snapshot(a) == model
    assert store.list_slice(a, 2, 5) == model[2:5]
    assert list(store.scan(a, "values", True)) == model[::-1]
    store.list_set(a, -2, 40)
    assert store.list_add(a, -2, 2) == 42
    assert store.list_get(a, -2) == 42
    assert store.list_compare_and_set(a, -2, store.list_encoded(a, -2), b"\x00")
    assert store.list_get(a, -2) is None
    store.clear(a)
    with pytest.raises(IndexError, match="pop from empty list"):
        store.list_pop(a)
    with pytest.raises(IndexError, match="list index out of range"):
        store.list_get(a, 0)
    with pytest.raises(IndexError, match="list assignment index out of range"):
        store.list_set(a, 0, 1)


def test_a_deque_with_a_limit(store: Store) -> None:
    q = store.create(DEQUE, 3)
    store.list_extend(q, [1, 2, 3, 4])
    assert store.snapshot(q) == collections.deque([2, 3, 4], 3)
    store.list_appendleft(q, 1)
    assert store.snapshot(q) == collections.deque([1, 2, 3], 3)
    assert store.snapshot(q).maxlen == 3
    store.list_extend(q, [8, 9], True)
    assert list(store.snapshot(q)) == [9, 8, 1]
    with pytest.raises(IndexError, match="maximum size"):
        store.list_insert(q, 0, 1)


def test_plain_containers_become_children(store: Store) -> None:
    d = store.create(DICT)
    value = {"list": [1, {"deep": {1, 2}}], (1, True): collections.deque([1], 5)}
    store.dict_set(d, "a", value)
    child = store.dict_get(d, "a")
    assert child == Link(DICT, child.c, False)
    inner = store.dict_get(child.c, "list")
    store.list_append(inner.c, "live")
    value["list"].append("live")  # type: ignore[attr-defined]
    assert store.snapshot(d) == {"a": value}
    assert list(store.scan(child.c))[1] == (1, True)
    assert store.dict_pop(d, "a") == value
    while store.collect_garbage():
        pass
    with pytest.raises(ContainerGone):
        store.length(child.c)
    assert store.statistics()["containers"] == 1


def test_a_container_in_itself_or_too_deep_cannot_be_stored(store: Store) -> None:
    d = store.create(DICT)
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    for value in (endless, deep, {"k": endless}):
        with pytest.raises(ValueError, match=r"in itself|100 deep"):
            store.dict_set(d, "k", value)
    store.dict_set(d, "k", deep[0])
    assert store.length(d) == 1


def test_references_keep_their_containers(store: Store) -> None:
    d, other = store.create(DICT), store.create(LIST)
    store.list_append(other, "here")
    store.dict_set(d, "ref", Container(store.uuid, LIST, other))
    assert store.dict_get(d, "ref") == Link(LIST, other, True)
    assert store.metadata(other)[2] == 1
    store.release_ref(other)
    assert store.collect_garbage() == 0
    assert store.list_get(other, 0) == "here"
    assert store.snapshot(d) == {"ref": Link(LIST, other, True)}
    store.dict_set(d, "ref", None)
    store.collect_garbage()
    with pytest.raises(ContainerGone):
        store.length(other)
    with pytest.raises(ValueError, match="does not exist"):
        store.dict_set(d, "ref", Container(store.uuid, LIST, other))


def test_child_stored_where_it_is_stays_a_child(store: Store) -> None:
    d = store.create(DICT)
    store.dict_set(d, "a", [1])
    child = store.dict_get(d, "a")
    store.dict_set(d, "a", Container(store.uuid, LIST, child.c))
    assert store.dict_get(d, "a") == child
    assert store.metadata(child.c)[2] == 0


def test_names_are_bound_and_removed(store: Store) -> None:
    c, created = store.named("stock", DICT)
    assert created
    assert store.named("stock", DICT) == (c, False)
    with pytest.raises(WrongKind):
        store.named("stock", LIST)
    assert store.names() == [("stock", DICT, c)]
    assert store.remove_name("stock")
    assert not store.remove_name("stock")
    store.collect_garbage()
    with pytest.raises(ContainerGone):
        store.length(c)
    with pytest.raises(ValueError, match="480"):
        store.named("x" * 481, DICT)


def test_metadata_and_counter(store: Store) -> None:
    c = store.create(QUEUE, 5, b"typecode")
    assert store.metadata(c) == (QUEUE, 0, 0, 5, 0, b"typecode")
    assert store.counter_add(c, 3) == 3
    store.list_append(c, 1)
    assert store.metadata(c) == (QUEUE, 1, 0, 5, 4, b"typecode")
    assert store.counter_add(c, -4, 0) == 0
    with pytest.raises(ValueError, match="range"):
        store.counter_add(c, -1, 0)


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    d, a = store.create(DICT), store.create(LIST)
    store.begin()
    assert store.in_transaction
    store.dict_set(d, "k", [1])
    store.list_append(a, 1)
    assert store.length(d) == 1
    assert list(store.scan(a)) == [1]
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(store.length(d)))
    thread.start()
    thread.join()
    assert seen == [0]
    store.abort()
    assert (store.length(d), store.length(a)) == (0, 0)
    store.begin()
    store.dict_set(d, "k", 1)
    store.list_append(a, 1)
    store.commit()
    assert not store.in_transaction
    assert (store.length(d), store.length(a)) == (1, 1)
    with pytest.raises(RuntimeError, match="no transaction"):
        store.commit()


def test_an_error_that_changed_nothing_leaves_the_transaction(store: Store) -> None:
    d = store.create(DICT)
    store.begin()
    store.dict_set(d, 1, 1)
    with pytest.raises(KeyError):
        store.dict_delete(d, 2)
    store.commit()
    assert store.snapshot(d) == {1: 1}
    gone = Container(store.uuid, LIST, 999)
    store.begin()
    with pytest.raises(ValueError, match="does not exist"):
        store.dict_update(d, [(5, 5), (6, gone)])
    with pytest.raises(RuntimeError, match="abort it"):
        store.commit()
    assert store.snapshot(d) == {1: 1}
    with pytest.raises(ValueError, match="does not exist"):
        store.dict_update(d, [(5, 5), (6, gone)])
    assert store.snapshot(d) == {1: 1}


def test_writes_of_another_thread_wait(store: Store) -> None:
    d = store.create(DICT)
    store.begin()
    thread = threading.Thread(target=store.dict_set, args=(d, "k", 2))
    thread.start()
    store.dict_set(d, "k", 1)
    store.commit()
    thread.join()
    assert store.dict_get(d, "k") == 2


def test_nonblocking_session_is_refused_a_taken_lock(store: Store) -> None:
    d = store.create(DICT)
    view = store.session(7)
    store.begin()
    with pytest.raises(StoreBusy):
        view.dict_set(d, b"\x06k", b"\x00")
    with pytest.raises(StoreBusy):
        view.begin()
    with pytest.raises(RuntimeError, match="wait for itself"):
        store.session(8, blocking=True).dict_set(d, b"\x06k", b"\x00")
    assert view.length(d) == 0
    store.commit()
    view.dict_set(d, b"\x06k", b"\x00")
    assert store.snapshot(d) == {"k": None}


def test_encoded_session_gives_and_takes_encodings(store: Store) -> None:
    d = store.create(DICT)
    view = store.session(7)
    assert (view.encoded, view.owner) == (True, 7)
    value = {"a": [1, (2,), {3}], (4, 5): None, True: 1.0}
    tree = _core.encode_value(value, HOOKS)
    view.dict_set(d, _core.encode_key((1, True), HOOKS), tree)
    assert store.snapshot(d) == {(1, True): value}
    child = view.dict_get(d, _core.encode_key((1, 1), HOOKS))
    assert child[0] == 0x10
    (key,) = view.scan(d)
    assert _core.decode_value(key, HOOKS) == (1, True)
    assert view.dict_contains(d, key)
    copy = view.snapshot(d)
    assert _core.decode_value(copy, HOOKS) == {(1, True): value}
    view.dict_set(d, b"\x06copy", copy)
    assert store.snapshot(d)["copy"] == {(1, True): value}
    assert view.dict_pop(d, b"\x06copy") == copy
    with pytest.raises(KeyError) as caught:
        view.dict_get(d, b"\x06no")
    assert caught.value.args == (b"\x06no",)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x03\x01",
        b"\x06\xff",
        b"\x77",
        b"\x10\x01" + bytes(8),
        b"\x10\x01\x01" + bytes(7),
        b"\x11\x01" + bytes(16),
        b"\x11\x63\x01" + bytes(15),
        b"\x11\x02\x63" + bytes(15),
        b"\x12",
        b"\x12\x02\xff\xff\xff\xff",
        b"\x12\x08\x00\x00\x00\x00",
        b"\x12\x02\x01\x00\x00\x00\x01\x00\x00\x00",
        b"\x12\x02\x01\x00\x00\x00\x02\x00\x00\x00\x10\x01",
    ],
)
def test_malformed_values_are_refused(store: Store, value: bytes) -> None:
    d, a = store.create(DICT), store.create(LIST)
    view = store.session(7)
    before = store.statistics()["containers"]
    for operation in (
        lambda: view.dict_set(d, b"\x06k", value),
        lambda: view.list_append(a, value),
        lambda: view.dict_compare_and_set(d, b"\x06k", None, value),
    ):
        with pytest.raises(ValueError, match=r"malformed|does not exist"):
            operation()
    assert store.length(d) == store.length(a) == 0
    assert store.statistics()["containers"] == before


@pytest.mark.parametrize(
    "key", [b"", b"\x08x", b"\x10", b"\x06\xff", b"\x09\x01", (b"", b""), (b"x", b""), (b"#1", b"")]
)
def test_malformed_keys_are_refused(store: Store, key: Any) -> None:
    d = store.create(DICT)
    with pytest.raises(ValueError, match="malformed"):
        store.session(7).dict_set(d, key, b"\x00")


def test_scan_sees_a_snapshot(store: Store) -> None:
    d, a = store.create(DICT), store.create(LIST)
    store.dict_update(d, [(n, -n) for n in range(1000)])
    store.list_extend(a, list(range(1000)))
    walks = [store.scan(d, "items"), store.scan(a, "values", True)]
    store.clear(d)
    store.clear(a)
    assert list(walks[0]) == [(n, -n) for n in range(1000)]
    assert walks[1].next(300) == list(range(999, 699, -1))
    assert walks[1].next(1000) == list(range(699, -1, -1))
    assert walks[1].next(1) == []
    store.list_extend(a, list(range(1000)))
    unfinished = store.scan(a)
    assert next(unfinished) == 0
    unfinished.close()
    assert unfinished.next(1) == []


def test_claims_are_acknowledged_and_returned(store: Store) -> None:
    q = store.create(QUEUE)
    store.list_extend(q, [1, [2], 3, 4])
    other = store.session(9, encoded=False)
    first, value = store.claim_first(q)
    second, nested = other.claim_first(q)
    third, last = other.claim_first(q)
    assert (value, nested, last) == (1, [2], 3)
    assert first < second < third
    assert store.length(q) == 1
    assert store.ack_claim(q, first)
    assert not store.ack_claim(q, first)
    assert 9 in store.owners()
    store.release_owner(9)
    assert store.owners() == [1]
    assert store.snapshot(q) == [[2], 3, 4]
    ticket, _ = store.claim_first(q)
    assert store.return_claim(q, ticket)
    assert not store.return_claim(q, ticket)
    assert store.snapshot(q) == [[2], 3, 4]
    while store.length(q):
        store.ack_claim(q, store.claim_first(q)[0])
    with pytest.raises(IndexError):
        store.claim_first(q)
    store.collect_garbage()
    assert store.statistics()["containers"] == 1


def test_references_keep_a_container(store: Store) -> None:
    owner = store.new_owner()
    view = store.session(owner, encoded=False)
    c = view.create(DICT)
    store.acquire_ref(c)
    store.acquire_ref(c)
    view.release_ref(c)
    store.release_ref(c)
    assert store.collect_garbage() == 0
    assert store.length(c) == 0
    store.release_ref(c)
    store.acquire_ref(c)  # it was not yet swept
    store.collect_garbage()
    assert store.length(c) == 0
    store.release_owner(1)
    store.collect_garbage()
    with pytest.raises(ContainerGone):
        store.acquire_ref(c)
    assert store.new_owner() > owner


def test_cycles_are_collected(store: Store) -> None:
    a, b = store.create(LIST), store.create(LIST)
    store.list_append(a, Container(store.uuid, LIST, b))
    store.list_append(b, [Container(store.uuid, LIST, a)])
    kept = store.create(DICT)
    store.release_ref(a)
    store.release_ref(b)
    store.collect_garbage()
    assert store.statistics()["containers"] == 4
    assert store.collect_cycles() == 3
    while store.collect_garbage(1):
        pass
    assert store.statistics()["containers"] == 1
    assert store.length(kept) == 0


def test_garbage_is_collected_in_small_steps(store: Store) -> None:
    d = store.create(DICT)
    store.dict_update(d, [(n, [n, {n}]) for n in range(100)])
    store.release_ref(d)
    rounds = 0
    while store.collect_garbage(7):
        rounds += 1
        assert rounds < 1000
    assert rounds > 10
    assert store.statistics()["containers"] == 0


def test_change_counts_wake_waiters(store: Store) -> None:
    d = store.create(DICT)
    seen = store.change_count(d)
    assert not store.wait_for_change(d, seen, 0.01)
    store.dict_set(d, 1, 1)
    assert store.wait_for_change(d, seen, 10)
    seen, everything = store.change_count(d), store.global_change_count()
    thread = threading.Timer(0.05, store.dict_set, (d, 1, 2))
    thread.start()
    assert store.wait_for_change(d, seen, 10)
    assert store.wait_for_any_change(everything, 10)
    thread.join()


def test_store_in_a_directory_persists(tmp_path: Path) -> None:
    with open_store(folder=tmp_path) as store:
        c, _ = store.named("kept", DICT)
        store.dict_set(c, "k", [1, 2])
    with open_store(folder=tmp_path, sync=True) as store:
        assert store.named("kept", DICT) == (c, False)
        assert store.snapshot(c) == {"k": [1, 2]}
        store.dict_set(c, "n", 1)
        assert store.dict_add(c, "n", 1) == 2


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    with open_store(folder=tmp_path) as store:
        store.create(DICT)
    data = tmp_path / "data.mdb"
    numbers = struct.pack("<QQ", 2, 1)
    first, later = (struct.pack("<I", version) + numbers for version in (4, 99))
    assert first in data.read_bytes()
    data.write_bytes(data.read_bytes().replace(first, later))
    with pytest.raises(StoreVersion, match="99"), open_store(folder=tmp_path):
        pass


def test_directory_without_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(os.urandom(1 << 16))
    with pytest.raises(OSError), open_store(folder=tmp_path):  # noqa: PT011
        pass


def test_closed_store_refuses_operations(store: Store) -> None:
    d = store.create(DICT)
    store.list_extend(a := store.create(LIST), list(range(1000)))
    walk = store.scan(a)
    store.begin()
    store.dict_set(d, 1, 1)
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.length(d)
    assert walk.next(256) == list(range(256))
    with pytest.raises(ValueError, match="closed"):
        walk.next(1)


def test_a_process_opens_a_store_once(tmp_path: Path) -> None:
    with open_store(folder=tmp_path) as store:
        c, _ = store.named("d", DICT)
        with pytest.raises(ValueError, match="already"):
            _core.Store(
                folder_place(tmp_path),
                HOOKS,
                WORDS.lock,
                WORDS.change_words,
                size=1 << 26,
                in_memory=False,
                sync=False,
                owner=1,
            )
        store.dict_set(c, 1, 1)


def test_mutated_encodings_are_taken_or_refused(store: Store) -> None:
    chance = random.Random(3)
    d, a = store.create(DICT), store.create(LIST)
    view = store.session(7)
    seeds = [_core.encode_value(value, HOOKS) for value in [*VALUES[:18], {"a": [1, {2, (3,)}]}]]
    seeds += [b"\x09\x02\x00\x00\x00i\x01", b"\x11\x02" + a.to_bytes(8, "little") + bytes(8)]
    refused = 0
    for _ in range(4000):
        data = bytearray(chance.choice(seeds)[:300])
        for _ in range(chance.randrange(4)):
            match chance.randrange(3):
                case 0 if data:
                    data[chance.randrange(len(data))] = chance.choice([0, 1, 2, 0x12, 255])
                case 1:
                    data.insert(chance.randrange(len(data) + 1), chance.randrange(256))
                case _:
                    del data[chance.randrange(len(data) + 1) :]
        attempts: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
            (view.list_append, (a, bytes(data))),
            (view.dict_set, (d, bytes(data), b"\x00")),
            (view.dict_set, (d, (bytes(data), bytes(data)), b"\x00")),
        ]
        for operation, args in attempts:
            try:
                operation(*args)
            except ValueError:
                refused += 1
    assert 1000 < refused < 12_000
    assert store.audit() == []
    for value in view.scan(a):
        assert value
    while store.collect_garbage():
        pass
