"""The tutorial's second program: a process writes into a value and an array that are shared."""

from __future__ import annotations

from typing import Any

from garrison import Array, Process, Value


def f(n: Any, a: Any) -> None:
    n.value = 3.14
    a[0] = 5


def share() -> tuple[float, list[int]]:
    num = Value("d", 0.0)
    arr = Array("i", range(10))

    p = Process(target=f, args=(num, arr))
    p.start()
    p.join()
    return num.value, arr[:]


if __name__ == "__main__":
    value, items = share()
    print(value)
    print(items)
