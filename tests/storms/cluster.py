"""A storm over a cluster: kill nodes' pools and their workers at random moments; nothing is lost.

``python -m storms.cluster --kills 300 [--seed N]``, in the folder `tests`. The agents are in this
process: what is killed are the processes of the nodes. One kill in eight hits a whole node.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import garrison
from engines.local_cluster import LocalCluster, LocalEngine
from storms.pool import KINDS, RETRIES, Load, Tally

NODE_SHARE = 1 / 8
PACE_S = 0.02


class Killer(threading.Thread):
    """Kills a node's pool, or a process of it, after each of its random pauses."""

    def __init__(self, pool: Any, cluster: LocalCluster, rng: random.Random, kills: int) -> None:
        super().__init__(name="killer", daemon=True)
        self._pool, self._cluster, self._rng, self._left = pool, cluster, rng, kills
        self._completed = 0
        self.kills: Counter[str] = Counter()
        self.done = threading.Event()

    def run(self) -> None:
        try:
            while self._left > 0:
                self.done.wait(self._rng.expovariate(1 / PACE_S))
                self._left -= self._kill_one()
        finally:
            self.done.set()

    def _kill_one(self) -> bool:
        nodes = list(self._cluster.nodes.values())
        completed = self._pool.statistics().completed
        if not nodes or completed == self._completed:
            return False  # workers that die one after the other before a task break a pool
        self._completed = completed
        pid, what = self._rng.choice(nodes).pid, "node"
        if self._rng.random() > NODE_SHARE:
            below = [grandchild for child in _children(pid) for grandchild in _children(child)]
            if not below:
                return False
            pid, what = self._rng.choice(below), "worker"
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.kills[what] += 1
        return True


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def storm(kills: int, seed: int, nodes: int, workers: int) -> Tally:
    """Work and kill until all kills are done, then work in calm and close."""
    tally = Tally()
    engine = LocalEngine(nodes, workers, replace=True)
    with garrison.Pool(engine=engine, retries=RETRIES) as pool:
        killer = Killer(pool, engine.cluster, random.Random(seed + 1), kills)
        load = Load(pool, random.Random(seed), tally)
        killer.start()
        while not killer.done.is_set() and not (tally.hung or tally.lost):
            load.round()
        killer.done.set()
        killer.join()
        tally.kills = killer.kills
        for _ in range(len(KINDS)):
            load.round()
        pool.close()
        pool.join()
    return tally


def main() -> int:
    """Run a storm and say what came of it; the status is 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    sys.stdout.write(f"seed {given.seed}\n")
    sys.stdout.flush()
    start = time.monotonic()
    tally = storm(given.kills, given.seed, given.nodes, given.workers)
    sys.stdout.write(
        f"{dict(tally.kills)} killed, {dict(tally.done)} done in {time.monotonic() - start:.1f} s; "
        f"hung {tally.hung}, lost {tally.lost}, duplicated {tally.duplicated}\n"
    )
    return 0 if tally.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
