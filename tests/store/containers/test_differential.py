"""Random calls on plain objects and on containers, with the same outcome."""

from __future__ import annotations

import importlib
import random
from collections import Counter, deque
from collections.abc import KeysView
from typing import Any

import pytest

from garrison.store import Kind, create_container

from . import differential

operator: Any = importlib.import_module("operator")  # it has types for a part of it only

VALUES: list[Any] = [0, 1, True, 1.0, -1, 2.5, 10**30, "a", "b", "", b"x", None, (1, 2), "\ud800"]
KEYS = [
    0,
    1,
    True,
    1.0,
    0.0,
    False,
    2.5,
    "a",
    "b",
    b"a",
    None,
    (1, "a"),
    (1.0, "a"),
    10**30,
    frozenset({1}),
]
ODD: list[Any] = [[], {}, (1, [])]
SEEDS = range(8)
ROUNDS = 300


def index(chance: random.Random) -> Any:
    return chance.choice([0, 0, 1, 2, -1, -2, 5, -9, 10**20, True, "x", None, 1.5])


def bounds(chance: random.Random) -> slice:
    ends = [None, 0, 1, 2, 3, 5, -1, -2, -7, 10**20, -(10**20)]
    return slice(
        chance.choice(ends), chance.choice(ends), chance.choice([None, None, 1, 2, -1, -2, 3, 0])
    )


def some(chance: random.Random, most: int = 5) -> list[Any]:
    return [chance.choice(VALUES) for _ in range(chance.randrange(most))]


def number(chance: random.Random) -> Any:
    return chance.choice([-1, 0, 1, 2, 2.5, "x"])


# --- Sequences --------------------------------------------------------------------------------


def of_sequences(chance: random.Random) -> dict[str, differential.Call]:
    i, value, values, n = index(chance), chance.choice(VALUES), some(chance), number(chance)
    j, k = index(chance), index(chance)
    return {
        f"[{i!r}]": lambda x: x[i],
        f"[{i!r}] = {value!r}": lambda x: operator.setitem(x, i, value),
        f"del [{i!r}]": lambda x: operator.delitem(x, i),
        f"append({value!r})": lambda x: x.append(value),
        f"append({value!r})!": lambda x: x.append(value),
        f"insert({i!r}, {value!r})": lambda x: x.insert(i, value),
        "pop()": lambda x: x.pop(),
        f"remove({value!r})": lambda x: x.remove(value),
        f"index({value!r})": lambda x: x.index(value),
        f"index({value!r}, {j!r}, {k!r})": lambda x: x.index(value, j, k),
        f"count({value!r})": lambda x: x.count(value),
        f"{value!r} in": lambda x: value in x,
        f"extend({values!r})": lambda x: x.extend(values),
        "extend(itself)": lambda x: x.extend(x),
        "extend(5)": lambda x: x.extend(5),
        f"+= {values!r}": lambda x: operator.iadd(x, values),
        f"* {n!r}": lambda x: x * n,
        f"{n!r} *": lambda x: n * x,
        f"*= {n!r}": lambda x: operator.imul(x, min(n, 1) if n != "x" else n),
        "clear()": lambda x: x.clear(),
        "reverse()": lambda x: x.reverse(),
        "len": len,
        "list": list,
        "reversed": lambda x: list(reversed(x)),
        "copy()": lambda x: x.copy(),
        "bool": bool,
        "+ 5": lambda x: x + 5,
        "5 +": lambda x: type(operator.add([5], list(x))),
        "== itself": lambda x: x == x,  # noqa: PLR0124
        "== 5": lambda x: x == 5,
    }


def of_lists(chance: random.Random) -> tuple[str, differential.Call]:
    i, values, cut = index(chance), some(chance), bounds(chance)
    calls = {
        **of_sequences(chance),
        f"pop({i!r})": lambda x: x.pop(i),
        f"[{cut}]": lambda x: x[cut],
        f"[{cut}] = {values!r}": lambda x: operator.setitem(x, cut, values),
        f"[{cut}] = 5": lambda x: operator.setitem(x, cut, 5),
        f"[{cut}] = itself": lambda x: operator.setitem(x, cut, x),
        f"del [{cut}]": lambda x: operator.delitem(x, cut),
        "sort(repr)": lambda x: x.sort(key=repr, reverse=True),
        f"+ {values!r}": lambda x: x + values,
        f"{values!r} +": lambda x: values + x,
        "+ tuple": lambda x: x + (1,),  # noqa: RUF005 - it is about this
        f"== {values!r}": lambda x: x == values,
        f"< {values!r}": lambda x: x < values,
        f"{values!r} >=": lambda x: values >= x,
        "< tuple": lambda x: x < (1,),
    }
    return chance.choice(list(calls.items()))


def of_deques(chance: random.Random) -> tuple[str, differential.Call]:
    value, values, n = chance.choice(VALUES), some(chance), chance.choice([0, 1, -1, 2, 7, -5, "x"])
    other = deque(values)
    calls = {
        **of_sequences(chance),
        f"appendleft({value!r})": lambda x: x.appendleft(value),
        "popleft()": lambda x: x.popleft(),
        f"extendleft({values!r})": lambda x: x.extendleft(values),
        f"rotate({n!r})": lambda x: x.rotate(n),
        "rotate()": lambda x: x.rotate(),
        "maxlen": lambda x: x.maxlen,
        f"+ {other!r}": lambda x: x + other,
        f"{other!r} +": lambda x: other + x,
        f"== {other!r}": lambda x: x == other,
        f"< {other!r}": lambda x: x < other,
        "[1:2]": lambda x: x[1:2],
    }
    return chance.choice(list(calls.items()))


@pytest.mark.parametrize("seed", SEEDS)
def test_list_behaves_as_the_plain_one(store: Any, seed: int) -> None:
    differential.run(create_container(store, Kind.LIST), [], of_lists, seed, ROUNDS)


@pytest.mark.parametrize("maxlen", [None, 0, 1, 4])
@pytest.mark.parametrize("seed", SEEDS)
def test_deque_behaves_as_the_plain_one(store: Any, seed: int, maxlen: int | None) -> None:
    subject, twin = create_container(store, Kind.DEQUE, (), maxlen), deque[Any]((), maxlen)
    differential.run(subject, twin, of_deques, seed, ROUNDS)


# --- Mappings ---------------------------------------------------------------------------------


def of_dicts(chance: random.Random) -> dict[str, differential.Call]:
    key, value = chance.choice([*KEYS, *KEYS, *ODD]), chance.choice([1, 2.5, "a", None, [1]])
    pairs = {chance.choice(KEYS): chance.choice([1, 2.5]) for _ in range(chance.randrange(4))}
    return {
        f"[{key!r}] = {value!r}": lambda x: operator.setitem(x, key, value),
        f"[{key!r}] = {value!r}!": lambda x: operator.setitem(x, key, value),
        f"[{key!r}]": lambda x: x[key],
        f"del [{key!r}]": lambda x: operator.delitem(x, key),
        f"{key!r} in": lambda x: key in x,
        f"get({key!r})": lambda x: x.get(key),
        f"get({key!r}, 7)": lambda x: x.get(key, 7),
        f"setdefault({key!r}, {value!r})": lambda x: x.setdefault(key, value),
        # A plain dict that is empty pops what is unhashable.
        f"pop({key!r})": lambda x: x and x.pop(key),
        f"pop({key!r}, 7)": lambda x: x and x.pop(key, 7),
        "popitem()": lambda x: x.popitem(),
        "clear()": lambda x: x.clear(),
        "len": len,
        "list": list,
        "reversed": lambda x: list(reversed(x)),
        "keys": lambda x: list(x.keys()),
        "values": lambda x: list(x.values()),
        "items": lambda x: list(x.items()),
        "reversed items": lambda x: list(reversed(x.items())),
        "keys &": lambda x: x.keys() & pairs.keys(),
        "keys -": lambda x: x.keys() - pairs.keys(),
        "- keys": lambda x: pairs.keys() - x.keys(),
        "keys | list": lambda x: x.keys() | [1, "new"],
        "keys ^": lambda x: x.keys() ^ pairs,
        "keys <=": lambda x: x.keys() <= pairs.keys(),
        "keys ==": lambda x: x.keys() == pairs.keys(),
        "items ==": lambda x: x.items() == pairs.items(),
        "isdisjoint": lambda x: x.keys().isdisjoint(pairs),
        f"{(key, value)!r} in items": lambda x: (key, value) in list(x.items()),
        f"{value!r} in values": lambda x: value in x.values(),
        "copy()": lambda x: x.copy(),
        f"== {pairs!r}": lambda x: x == pairs,
        f"{pairs!r} ==": lambda x: pairs == x,
        "bool": bool,
    }


def of_plain_dicts(chance: random.Random) -> tuple[str, differential.Call]:
    pairs = {chance.choice(KEYS): chance.choice([1, 2.5]) for _ in range(chance.randrange(4))}
    calls = {
        **of_dicts(chance),
        f"update({pairs!r})": lambda x: x.update(pairs),
        "update(pairs)": lambda x: x.update(list(pairs.items()), more=1),
        "update(itself)": lambda x: x.update(x),
        "update(5)": lambda x: x.update(5),
        "update([5])": lambda x: x.update([5]),
        "update([(1, 2, 3)])": lambda x: x.update([(1, 2, 3)]),
        f"| {pairs!r}": lambda x: x | pairs,
        f"{pairs!r} |": lambda x: pairs | x,
        f"|= {pairs!r}": lambda x: operator.ior(x, pairs),
        "|= pairs": lambda x: operator.ior(x, list(pairs.items())),
        "fromkeys": lambda x: x.fromkeys("ab", 1),
    }
    return chance.choice(list(calls.items()))


def of_counters(chance: random.Random) -> tuple[str, differential.Call]:
    other = Counter({chance.choice("abc"): chance.randrange(-2, 4) for _ in range(3)})
    letters = "".join(chance.choice("abc") for _ in range(4))
    calls = {
        "[]": lambda x: x["b"],
        "del": lambda x: operator.delitem(x, "b"),
        "[] =": lambda x: operator.setitem(x, "c", 3),
        "[] +=": lambda x: operator.setitem(x, "c", x["c"] + 1),
        f"update({letters!r})": lambda x: x.update(letters),
        f"update({other!r})": lambda x: x.update(other, b=2),
        f"subtract({letters!r})": lambda x: x.subtract(letters),
        f"subtract({other!r})": lambda x: x.subtract(other, b=2),
        "update(5)": lambda x: x.update(5),
        "update(itself)": lambda x: x.update(x),
        "most_common": lambda x: x.most_common(),
        "most_common(2)": lambda x: x.most_common(2),
        "elements": lambda x: sorted(x.elements()),
        "total": lambda x: x.total(),
        f"+ {other!r}": lambda x: x + other,
        f"- {other!r}": lambda x: x - other,
        f"| {other!r}": lambda x: x | other,
        f"& {other!r}": lambda x: x & other,
        f"{other!r} -": lambda x: other - x,
        f"{other!r} +": lambda x: other + x,
        f"+= {other!r}": lambda x: operator.iadd(x, other),
        f"-= {other!r}": lambda x: operator.isub(x, other),
        f"|= {other!r}": lambda x: operator.ior(x, other),
        f"&= {other!r}": lambda x: operator.iand(x, other),
        f"== {other!r}": lambda x: x == other,
        f"<= {other!r}": lambda x: x <= other,
        f"{other!r} >": lambda x: other > x,
        "+": lambda x: +x,
        "-": lambda x: -x,
        "pop": lambda x: x.pop("a", 5),
        "setdefault": lambda x: x.setdefault("a", 5),
        "copy()": lambda x: x.copy(),
        "len": len,
        "fromkeys": lambda x: x.fromkeys("ab"),
    }
    return chance.choice(list(calls.items()))


@pytest.mark.parametrize("seed", SEEDS)
def test_dict_behaves_as_the_plain_one(store: Any, seed: int) -> None:
    differential.run(create_container(store, Kind.DICT), {}, of_plain_dicts, seed, ROUNDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_counter_behaves_as_the_plain_one(store: Any, seed: int) -> None:
    differential.run(
        create_container(store, Kind.COUNTER), Counter[Any](), of_counters, seed, ROUNDS
    )


# --- Sets -------------------------------------------------------------------------------------


def of_sets(chance: random.Random) -> tuple[str, differential.Call]:
    member = chance.choice([*KEYS, *ODD, {1}])
    members = {chance.choice(KEYS) for _ in range(chance.randrange(5))}
    listed = list(members)
    frozen = frozenset(members)
    calls: dict[str, differential.Call] = {
        f"add({member!r})": lambda x: x.add(member),
        f"add({member!r})!": lambda x: x.add(member),
        f"discard({member!r})": lambda x: x.discard(member),
        f"remove({member!r})": lambda x: x.remove(member),
        f"{member!r} in": lambda x: member in x,
        "clear()": lambda x: x.clear(),
        "len": len,
        "set": set,
        "copy()": lambda x: x.copy(),
        "bool": bool,
        "update()": lambda x: x.update(),
        "update(5)": lambda x: x.update(5),
        f"update({listed!r}, ..)": lambda x: x.update(listed, [1], x),
        f"union({listed!r})": lambda x: x.union(listed, [1]),
        f"intersection({listed!r})": lambda x: x.intersection(listed, x),
        f"difference({listed!r})": lambda x: x.difference(listed, [1]),
        f"symmetric_difference({listed!r})": lambda x: x.symmetric_difference(listed),
        f"intersection_update({listed!r})": lambda x: x.intersection_update(listed, x),
        f"difference_update({listed!r})": lambda x: x.difference_update(listed, [1]),
        f"symmetric_difference_update({listed!r})": lambda x: x.symmetric_difference_update(listed),
        f"isdisjoint({listed!r})": lambda x: x.isdisjoint(listed),
        f"issubset({listed!r})": lambda x: x.issubset(listed),
        f"issuperset({listed!r})": lambda x: x.issuperset(listed),
    }
    for other in (members, frozen, listed, {1: 2, "a": 3}.keys(), 5):
        for symbol in ("or_", "and_", "sub", "xor", "eq", "ne", "lt", "le", "gt", "ge"):
            function = getattr(operator, symbol)
            calls[f"{symbol} {other!r}"] = _operation(function, other)
            calls[f"{other!r} {symbol}"] = _operation(function, other, turned=True)
        if isinstance(other, KeysView):
            continue  # a plain set does not change in place by these, one of ours does
        for symbol in ("ior", "iand", "isub", "ixor"):
            calls[f"{symbol} {other!r}"] = _operation(getattr(operator, symbol), other)
    return chance.choice(list(calls.items()))


def _operation(function: Any, other: Any, *, turned: bool = False) -> differential.Call:
    def call(x: Any) -> Any:
        try:
            result = function(other, x) if turned else function(x, other)
        except TypeError as error:
            return "unsupported operand" in str(error) or "not supported" in str(error)
        # A frozenset on the left decides for itself; what comes of us is a plain set.
        return set(result) if isinstance(result, frozenset) else result

    return call


@pytest.mark.parametrize("seed", SEEDS)
def test_set_behaves_as_the_plain_one(store: Any, seed: int) -> None:
    differential.run(create_container(store, Kind.SET), set(), of_sets, seed, ROUNDS)
