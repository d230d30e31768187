"""The tutorial's first program: a pool of 5 processes maps x -> x**2 over 1..10."""

from __future__ import annotations

import garrison as multiprocessing


def squares() -> list[int]:
    with multiprocessing.Pool(5) as pool:
        return pool.map(lambda x: x**2, range(1, 11))


if __name__ == "__main__":
    print(squares())
