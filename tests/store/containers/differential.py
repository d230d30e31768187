"""The same calls on a plain object and on a container: the same results, the same exceptions."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

Call = Callable[[Any], Any]
NAMING = ("not supported between instances", "can't multiply sequence by non-int")
"""Texts that name the types on both sides, of which one is ours."""
NEWER = re.compile(r"cannot use '.*' as a (?:dict key|set element) \((.*)\)")
"""What CPython 3.14 says around the text of what cannot be hashed."""


def outcome(call: Call, subject: Any) -> Any:
    """Return what a call gives: its result, or the type and text of its exception."""
    try:
        result = call(subject)
    except Exception as error:
        text = NEWER.sub(r"\1", str(error))
        return type(error), "" if any(part in text for part in NAMING) else text
    if result is subject:
        return "itself"
    return plain(result)


def plain(value: Any) -> Any:
    """Return a value without containers in it."""
    if hasattr(type(value), "__garrison_container__"):
        return copy.deepcopy(value)
    if type(value) in {list, tuple, set}:
        return type(value)(plain(each) for each in value)
    return value


def compare(subject: Any, twin: Any, name: str, call: Call) -> None:
    """Check that a call does the same to both."""
    before = copy.deepcopy(twin)
    expected, found = outcome(call, twin), outcome(call, subject)
    assert found == expected, f"{name} of {before!r}: {found!r}, not {expected!r}"
    assert type(found) is type(expected), f"{name} of {before!r}"
    after = copy.deepcopy(subject)
    assert type(after) is type(twin)
    assert after == twin, f"{name} of {before!r}"


def run(
    subject: Any,
    twin: Any,
    calls: Callable[[random.Random], tuple[str, Call]],
    seed: int,
    rounds: int,
) -> None:
    """Compare random calls, one after the other."""
    chance = random.Random(seed)
    for _ in range(rounds):
        name, call = calls(chance)
        compare(subject, twin, f"seed {seed}: {name}", call)
