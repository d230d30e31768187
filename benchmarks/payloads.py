"""Objects of many types for the matrix of payloads, in a module that workers import."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Point:
    """An object of a class of the program."""

    number: int
    name: str


def frame(size: int) -> Any:
    """A table of text."""
    pandas = importlib.import_module("pandas")
    return pandas.DataFrame({"text": texts(size)})


def texts(size: int) -> list[str]:
    return [f"text {n:9}" for n in range(max(1, size // 17))]


def array(size: int) -> Any:
    return importlib.import_module("numpy").arange(size // 8)


MAKERS: dict[str, Callable[[int], Any]] = {
    "bytes": lambda size: b"x" * size,
    "str": lambda size: "x" * size,
    "strings": texts,
    "ints": lambda size: list(range(size // 5)),
    "tuples": lambda size: [(n, f"n{n}", n / 2) for n in range(max(1, size // 30))],
    "dicts": lambda size: [{"id": n, "name": f"n{n}"} for n in range(max(1, size // 22))],
    "dataclass": lambda size: [Point(n, f"n{n}") for n in range(max(1, size // 30))],
    "array": array,
    "frame": frame,
}
"""Makes an object whose pickle has about so many bytes."""


@functools.lru_cache(maxsize=1)
def kept(kind: str, size: int) -> Any:
    return MAKERS[kind](size)


def made(kind: str, size: int) -> Any:
    """A task whose result is all that there is to it: it is made by the first call."""
    return kept(kind, size)


def receive(_payload: Any) -> None:
    """A task whose argument is all that there is to it."""


def consume(items: Any, answers: Any) -> None:
    """Answer each item, up to None."""
    while items.get() is not None:
        answers.put(1)
