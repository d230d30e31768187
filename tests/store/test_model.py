"""Random operations, against Python's own dict, list, set and deque."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison import _core

from .tools import DEQUE, DICT, LIST, SET, Link, open_store

Store = _core.Store
STEPS = 4000
KEYS: list[Any] = [
    None,
    0,
    1,
    True,
    1.0,
    1.5,
    -3,
    2**70,
    "a",
    "b" * 450,
    b"a",
    (1, "x"),
    (True, "x"),
]
ERRORS = (KeyError, IndexError)


class Model:
    """A store, and the plain objects that it should be the same as."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.d: dict[Any, Any] = {}
        self.a: list[Any] = []
        self.s: dict[Any, None] = {}
        self.q: collections.deque[Any] = collections.deque(maxlen=12)
        self.numbers = store.create(DICT), store.create(LIST), store.create(SET)
        self.deque = store.create(DEQUE, 12)

    def key(self) -> Any:
        return self.random.choice(KEYS)

    def index(self) -> int:
        return self.random.randint(-len(self.a) - 1, len(self.a) + 1)

    def value(self, depth: int = 0) -> Any:
        choice = self.random.randrange(12)
        if depth < 3 and choice < 4:
            size = self.random.randrange(4)
            items = [self.value(depth + 1) for _ in range(size)]
            if choice == 0:
                return items
            if choice == 1:
                return {self.key(): item for item in items}
            if choice == 2:
                return {self.key() for _ in range(size)}
            return collections.deque(items, 5)
        return self.random.choice([None, True, self.random.randrange(10**6), 0.5, "t", b"b" * 3000])

    def same(
        self, ours: Callable[[], Any], plain: Callable[[], Any], *, gives: bool = False
    ) -> None:
        """Do the same to both: the same result, or the same error."""
        expected: Any
        try:
            expected = plain()
        except ERRORS as error:
            with pytest.raises(type(error)):
                ours()
            return
        found = ours()
        if gives:
            assert same(self.plain(found), expected), (found, expected)

    def plain(self, found: Any) -> Any:
        return self.store.snapshot(found.c) if isinstance(found, Link) else found

    def compare(self) -> None:
        d, a, s = self.numbers
        store = self.store
        assert same(store.snapshot(d), self.d)
        assert same(list(store.scan(d)), list(self.d))
        assert same(store.snapshot(a), self.a)
        assert list(store.scan(s)) == list(self.s)
        assert same(store.snapshot(self.deque), self.q)
        assert [store.length(c) for c in (d, a, s)] == [len(self.d), len(self.a), len(self.s)]

    def step(self) -> None:
        kind = self.random.choice(
            [self.on_dict, self.on_list, self.on_set, self.on_deque, self.inside]
        )
        kind()

    def on_dict(self) -> None:
        store, c, key, value = self.store, self.numbers[0], self.key(), self.value()
        match self.random.randrange(9):
            case 0 | 1:
                self.same(
                    lambda: store.dict_set(c, key, value), lambda: self.d.update({key: value})
                )
            case 2:
                self.same(lambda: store.dict_delete(c, key), lambda: self.d.pop(key))
            case 3:
                self.same(lambda: store.dict_pop(c, key), lambda: self.d.pop(key), gives=True)
            case 4:
                self.same(lambda: store.dict_get(c, key), lambda: self.d[key], gives=True)
            case 5:
                ours = lambda: store.dict_setdefault(c, key, value)  # noqa: E731
                self.same(ours, lambda: self.d.setdefault(key, value), gives=True)
            case 6:
                self.same(lambda: store.dict_popitem(c)[1], lambda: self.d.popitem()[1], gives=True)
            case 7:
                pairs = [(self.key(), self.value()) for _ in range(4)]
                self.same(lambda: store.dict_update(c, pairs), lambda: self.d.update(pairs))
            case _:
                assert store.dict_contains(c, key) == (key in self.d)
                if self.random.random() < 0.1:
                    store.clear(c)
                    self.d.clear()

    def on_list(self) -> None:
        store, c, i, value = self.store, self.numbers[1], self.index(), self.value()
        a = self.a
        match self.random.randrange(10):
            case 0 | 1:
                self.same(lambda: store.list_append(c, value), lambda: a.append(value))
            case 2 | 3:
                self.same(lambda: store.list_insert(c, i, value), lambda: a.insert(i, value))
            case 4:
                self.same(lambda: store.list_pop(c, i), lambda: a.pop(i), gives=True)
            case 5:
                self.same(lambda: store.list_delete(c, i), lambda: a.__delitem__(i))
            case 6:
                self.same(lambda: store.list_set(c, i, value), lambda: a.__setitem__(i, value))
            case 7:
                self.same(lambda: store.list_get(c, i), lambda: a[i], gives=True)
            case 8:
                start, stop = sorted(self.random.randrange(len(a) + 2) for _ in range(2))
                found = [self.plain(value) for value in store.list_slice(c, start, stop)]
                assert same(found, a[start:stop])
                new = [self.value() for _ in range(self.random.randrange(5))]
                store.list_replace(c, start, stop, new)
                a[start:stop] = new
            case _:
                left = self.random.random() < 0.5
                values = [self.value() for _ in range(3)]
                store.list_extend(c, values, left)
                a[:] = [*values[::-1], *a] if left else [*a, *values]
                if self.random.random() < 0.1:
                    store.clear(c)
                    a.clear()

    def on_set(self) -> None:
        store, c, key = self.store, self.numbers[2], self.key()
        if self.random.random() < 0.6:
            assert store.set_add(c, key) == (key not in self.s)
            self.s.setdefault(key)
        else:
            assert store.set_discard(c, key) == (key in self.s)
            self.s.pop(key, None)

    def on_deque(self) -> None:
        store, c, value = self.store, self.deque, self.value()
        match self.random.randrange(5):
            case 0 | 1:
                store.list_append(c, value)
                self.q.append(value)
            case 2:
                store.list_appendleft(c, value)
                self.q.appendleft(value)
            case 3:
                self.same(lambda: store.list_pop(c), self.q.pop, gives=True)
            case _:
                self.same(lambda: store.list_pop(c, 0), self.q.popleft, gives=True)

    def inside(self) -> None:
        """Change a container that lies in the list, where there is one."""
        places = [i for i, value in enumerate(self.a) if type(value) in {list, dict}]
        if not places:
            return
        i, value = self.random.choice(places), self.value(1)
        link, plain = self.store.list_get(self.numbers[1], i), self.a[i]
        if isinstance(plain, list):
            self.store.list_append(link.c, value)
            plain.append(value)
        else:
            key = self.key()
            self.store.dict_set(link.c, key, value)
            plain[key] = value

    def transaction(self, *, keep: bool) -> None:
        copies = [copied(plain) for plain in (self.d, self.a, self.s, self.q)]
        self.store.begin()
        for _ in range(self.random.randrange(8)):
            self.step()
        if keep:
            self.store.commit()
            return
        self.store.abort()
        self.d, self.a, self.s, self.q = copies


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, collections.deque):
        return collections.deque(map(copied, value), value.maxlen)
    if isinstance(value, list):
        return list(map(copied, value))
    return set(value) if isinstance(value, set) else value


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same(list(one), list(other)) and same([*one.values()], [*other.values()])
    if isinstance(one, (list, collections.deque)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.watchdog(120.0)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("in_memory", [True, False])
def test_random_operations_agree_with_plain_objects(
    seed: int, in_memory: bool, tmp_path: Path
) -> None:
    with open_store(folder=None if in_memory else tmp_path) as store:
        model = Model(store, seed)
        for step in range(STEPS):
            if model.random.random() < 0.05:
                model.transaction(keep=model.random.random() < 0.5)
            else:
                model.step()
            if step % 20 == 0:
                model.compare()
                while model.random.random() < 0.7 and store.collect_garbage(50):
                    pass
        model.compare()
        assert store.audit() == []
        for c in (*model.numbers, model.deque):
            store.release_ref(c)
        while store.collect_garbage():
            pass
        assert store.statistics()["containers"] == 0
        assert store.audit() == []
