"""Random numbers of workers: all workers differ, and a seeded program is repeatable.

A forked worker has a copy of numpy's global generator, so in the standard library all workers draw
the same numbers. Here each gets its own seed, derived from the pool's seed. (`random` seeds itself
anew in a forked child.) A spawned worker runs the main module itself, and keeps its seeds, unless
the pool was given a seed.
"""

from __future__ import annotations

import importlib
import itertools
import os
import pickle
import sys
from _blake2 import blake2b  # hashlib would load OpenSSL

from garrison._typing import Any

__all__ = ["Seeds", "keep_numpy_state", "seed_late_numpy", "seed_worker"]

_pools = itertools.count()
_pending: list[bytes] = []


class Seeds:
    """The seed of a pool, from which those of its workers are derived.

    Parameters
    ----------
    chosen : int or None
        The seed that the program gave to the pool.
    inherited : bool
        Whether workers begin with a copy of numpy's state: under fork and forkserver.
    """

    def __init__(self, chosen: int | None, *, inherited: bool) -> None:
        self.chosen: bool = chosen is not None
        self.inherited: bool = inherited
        # A program that has not loaded it has not seeded it, and in a worker of a fork server that
        # loads it later it seeds itself: an import of 20 ms that few need.
        self.repeatable: bool = self.chosen or "numpy.random" in sys.modules
        self.seed: int = _seed_of_program() if chosen is None else chosen


def _seed_of_program() -> int:
    """Make a seed from numpy's global state: a program that seeds numpy gets the same each time."""
    generator: Any = sys.modules.get("numpy.random")
    if generator is None:
        return int.from_bytes(os.urandom(8), "little")
    # Two pools of one program differ, though nothing was drawn in between.
    state = pickle.dumps((generator.get_state(legacy=False), next(_pools)))
    return int.from_bytes(blake2b(state, digest_size=8).digest(), "little")


def seed_worker(seeds: Seeds, number: int) -> None:
    """Give the pool's worker of this number its seeds."""
    if not seeds.chosen and not seeds.inherited:
        return
    digest = blake2b(f"{seeds.seed}/{number}".encode(), digest_size=32).digest()
    if seeds.chosen or "random" in sys.modules:
        # It takes a millisecond to import, and seeds itself for a program that has not chosen.
        importlib.import_module("random").seed(digest)
    if "numpy.random" in sys.modules or (seeds.repeatable and "numpy" in sys.modules):
        _seed_numpy(digest)
    elif seeds.chosen:
        _pending.append(digest)


def seed_late_numpy() -> None:
    """Seed numpy once it is imported: a task may import it later."""
    if _pending and "numpy" in sys.modules:
        _seed_numpy(_pending.pop())


def keep_numpy_state() -> None:
    """Do not seed numpy from now on: the initializer may have."""
    if "numpy" in sys.modules:
        _pending.clear()


def _seed_numpy(digest: bytes) -> None:
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
    importlib.import_module("numpy.random").seed(words)
