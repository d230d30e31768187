"""A process is killed at each named point of each operation: all of it is there, or nothing.

Whoever comes next finds the lock free, every record in agreement, and can go on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison import _core
from garrison.errors import ContainerGone
from store.tools import DICT, LIST, MEBIBYTE, QUEUE, SET, Container, open_store
from sync.forked import Forked, armed, died

Store = _core.Store
Deed = Callable[[Store, "Prepared"], Any]
POINTS = [point for point in _core.CRASH_POINTS if point.startswith("store.")]
UNDONE = {"store.locked", "store.begun", "store.reserved", "store.written"}
"""Who dies there has done nothing."""
IN_FOLDER = ("set", "append", "transaction", "sweep")

if not POINTS:
    pytest.skip("a build with the feature crash-points", allow_module_level=True)


class Prepared:
    """Containers with something in each, known by name."""

    def __init__(self, store: Store) -> None:
        self.d, self.a, self.s, self.q = (
            store.named(name, kind)[0]
            for name, kind in [("d", DICT), ("a", LIST), ("s", SET), ("q", QUEUE)]
        )
        store.dict_update(self.d, [("old", 1), ("nested", {"x": [1, {2}]}), ("n", 5)])
        store.list_extend(self.a, list(range(20)))
        store.list_append(self.a, [1, 2])
        store.set_add(self.s, "member")
        store.list_extend(self.q, ["first", ["second"], "third"])
        self.loose = store.create(LIST)
        store.list_extend(self.loose, [[n] for n in range(10)])
        self.ticket, _ = store.claim_first(self.q)

    def everything(self, store: Store) -> list[Any]:
        plain = [store.snapshot(c) for c in (self.d, self.a, self.s, self.q)]
        return [
            *plain,
            store.names(),
            store.owners(),
            store.metadata(self.q)[4],
            loose(store, self),
        ]


def loose(store: Store, prepared: Prepared) -> Any:
    """What became of a container without a name."""
    try:
        return store.snapshot(prepared.loose)
    except ContainerGone:
        return None


def transaction(store: Store, p: Prepared) -> None:
    store.begin()
    store.dict_set(p.d, "new", [p.d])
    store.list_delete(p.a, 10)
    store.list_append(p.q, store.dict_pop(p.d, "nested"))
    store.set_discard(p.s, "member")
    store.commit()


def sweep(store: Store, p: Prepared) -> None:
    store.begin()
    store.release_ref(p.loose)
    store.collect_garbage()
    store.commit()


DEEDS: dict[str, Deed] = {
    "set": lambda store, p: store.dict_set(p.d, "old", 2),
    "set new": lambda store, p: store.dict_set(p.d, "new", 1),
    "set tree": lambda store, p: store.dict_set(p.d, "nested", {"y": {"z": [1]}}),
    "set reference": lambda store, p: store.dict_set(
        p.d, "r", Container(store.uuid, LIST, p.loose)
    ),
    "large": lambda store, p: store.dict_set(p.d, "large", "x" * 3 * MEBIBYTE),
    "delete": lambda store, p: store.dict_delete(p.d, "nested"),
    "popitem": lambda store, p: store.dict_popitem(p.d),
    "update": lambda store, p: store.dict_update(p.d, [(n, [n]) for n in range(50)]),
    "add": lambda store, p: store.dict_add(p.d, "n", 1),
    "clear": lambda store, p: store.clear(p.d),
    "set add": lambda store, p: store.set_add(p.s, "another"),
    "append": lambda store, p: store.list_append(p.a, "last"),
    "insert": lambda store, p: store.list_insert(p.a, 10, ["middle"]),
    "delete in the middle": lambda store, p: store.list_delete(p.a, 8),
    "replace": lambda store, p: store.list_replace(p.a, 3, 9, [1] * 12),
    "pop": lambda store, p: store.list_pop(p.a),
    "claim": lambda store, p: store.claim_first(p.q),
    "ack_claim": lambda store, p: store.ack_claim(p.q, p.ticket),
    "return claim": lambda store, p: store.return_claim(p.q, p.ticket),
    "count": lambda store, p: store.counter_add(p.q, 1),
    "create": lambda store, p: store.named("more", DICT),
    "remove name": lambda store, p: store.remove_name("s"),
    "release owner": lambda store, p: store.release_owner(1),
    "sweep": sweep,
    "transaction": transaction,
}


def outcome_of(deed: Deed, folder: Path | None) -> list[Any]:
    """What the operation does if nobody dies."""
    with open_store(folder=folder) as store:
        prepared = Prepared(store)
        deed(store, prepared)
        return prepared.everything(store)


def later(store: Store, p: Prepared) -> list[Any]:
    """Another process: it finds the lock free, and can go on."""
    view = store.session(2, encoded=False)
    found = p.everything(view)
    view.dict_set(p.d, "later", 1)
    view.list_append(p.a, "later")
    view.dict_delete(p.d, "later")
    view.list_pop(p.a)
    assert p.everything(view) == found
    assert view.audit() == []
    return found


def kill(deed: Deed, point: str, token: Path, folder: Path | None) -> tuple[bool, list[Any], Any]:
    """Whether it died there, what was there before, and what is there after it."""
    with open_store(folder=folder) as store:
        prepared = Prepared(store)
        before = prepared.everything(store)
        with armed(point, token, deed, store, prepared) as victim:
            dead = died(victim, token)
        with Forked(lambda: bool(later(store, prepared))) as heir:
            assert heir.answer() == "True", "the next one has failed"
        after = later(store, prepared)
        return dead, before, after


@pytest.mark.watchdog(120.0)
@pytest.mark.parametrize("name", DEEDS)
def test_death_at_each_point_undoes_or_completes_the_operation(name: str, tmp_path: Path) -> None:
    deed = DEEDS[name]
    done = outcome_of(deed, None)
    reached = set()
    for point in POINTS:
        dead, before, after = kill(deed, point, tmp_path / point, None)
        assert after == (before if dead and point in UNDONE else done), point
        if dead:
            reached.add(point)
    assert reached >= set(POINTS) - {"store.reserved"}
    assert ("store.reserved" in reached) == (name == "large")


@pytest.mark.watchdog(120.0)
@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("name", IN_FOLDER)
def test_death_at_each_point_leaves_a_sound_directory(
    name: str, sync: bool, tmp_path: Path
) -> None:
    deed = DEEDS[name]
    (tmp_path / "done").mkdir()
    done = outcome_of(deed, tmp_path / "done")
    for point in POINTS:
        folder = tmp_path / f"at-{point}"
        folder.mkdir()
        _, before, after = kill(deed, point, tmp_path / point, folder)
        assert after == (before if point in UNDONE and (tmp_path / point).exists() else done)
        with open_store(folder=folder) as store:
            assert store.audit() == []
            found = [store.snapshot(c) for _, _, c in store.names()]
            assert len(found) == len(after[4])


def test_waiter_is_woken_by_a_commit_of_a_dead_process(tmp_path: Path) -> None:
    for point in POINTS:
        with open_store() as store:
            prepared = Prepared(store)
            seen = store.change_count(prepared.d)
            with armed(point, tmp_path / point, DEEDS["set"], store, prepared) as victim:
                died(victim, tmp_path / point)
            done = store.dict_get(prepared.d, "old") == 2
            if done:
                assert store.wait_for_change(prepared.d, seen, 20)
