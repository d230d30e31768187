"""Two pools, one on a Ray cluster of its own: nothing but their results is printed or changed."""

from __future__ import annotations

import os
import signal
import sys

from garrison import Pool

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def state() -> list[object]:
    """Return what Ray might change, but for the packages of its own, after all others."""
    path = [place for place in sys.path if "ray/thirdparty_files" not in place]
    return [dict(os.environ), path, [signal.getsignal(each) for each in SIGNALS]]


def square(number: int) -> int:
    """Be a function that workers have by value."""
    return number * number


if __name__ == "__main__":
    before = state()
    with Pool(2, engine="ray") as pool:
        found = pool.map(square, range(3))
        with Pool(1, engine="threads") as other:
            found += other.map(lambda number: number**3, range(3))
        assert state() == before
    assert state() == before
    sys.stdout.write(f"{found}\n")
