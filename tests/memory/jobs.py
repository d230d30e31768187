"""What other processes do with memory that is handed to them."""

from __future__ import annotations

import ctypes
from typing import Any


class Point(ctypes.Structure):
    """A structure with fields of different sizes."""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double), ("name", ctypes.c_char * 4))


def put(holder: Any, index: Any, value: Any) -> None:
    holder[index] = value


def put_value(holder: Any, value: Any) -> None:
    holder.value = value


def read(holder: Any, index: Any) -> Any:
    return holder[index]


def move(point: Any) -> None:
    point.x += 1
    point.name = b"moved"[:4]


def add_often(value: Any, times: int) -> None:
    for _ in range(times):
        value.add(1)


def add_locked(value: Any, times: int) -> None:
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def total(shared: Any) -> float:
    return float(shared.get().sum())


def forward(shared: Any) -> Any:
    return shared


def drain(queue: Any) -> None:
    """Take one holder after the other from a queue, and put 7 into each."""
    while (holder := queue.get()) is not None:
        holder[0] = 7


def is_private(array: Any) -> bool:
    return bool(array.flags.writeable)
