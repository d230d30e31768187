"""A discrete simulation of the two levels: the scheduler's own decisions, without processes.

Nodes with workers, messages that take time, tasks that take time, stragglers, deaths and joins, all
from one seed. Run it for a picture of any size: ``python -m engines.simulation --help``.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from garrison.engines.cluster._scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

WAY_S = 0.001
"""Seconds that a message takes in one direction."""
TURN_S = 0.0005
"""Seconds in which the driver gathers events before it decides."""


@dataclass
class World:
    """What happens.

    Parameters
    ----------
    seed : int
        Of everything.
    nodes, workers : int
        Nodes at first, and workers of each.
    tasks : int
        Their number.
    task_s : callable
        Draws the seconds of a task.
    stragglers : float
        Share of the nodes that are 3 times slower.
    deaths, joins : int
        Nodes that die, and nodes that join, at random times within the ideal duration.
    retries : int
        Of each task.
    """

    seed: int = 1
    nodes: int = 200
    workers: int = 50
    tasks: int = 500_000
    task_s: Callable[[random.Random], float] = lambda rng: rng.uniform(0.025, 0.075)
    stragglers: float = 0.02
    deaths: int = 5
    joins: int = 5
    retries: int = 3


@dataclass
class Task:
    """A task, and what became of it."""

    number: int
    seconds: float
    attempts: int = 0
    results: int = 0
    lost: bool = False


@dataclass
class Node:
    """A node: tasks in its queue, and its workers."""

    name: str
    workers: int
    factor: float
    alive: bool = True
    free: int = 0
    queue: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    asked: bool = False
    collecting: bool = False


@dataclass
class Outcome:
    """What a simulation has found."""

    wall_s: float
    ideal_s: float
    results: int
    lost: int
    doubled: int
    charged: int
    """Attempts that deaths of nodes have cost."""
    messages: int

    def __str__(self) -> str:
        return (
            f"{self.results} results, {self.lost} lost, {self.doubled} doubled, "
            f"{self.charged} attempts charged, {self.messages} messages, "
            f"{self.wall_s:.2f} s of ideal {self.ideal_s:.2f} s: "
            f"{100 * (self.wall_s / self.ideal_s - 1):.1f} % more"
        )


class Simulation:
    """Runs a world to its end."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, random.Random(world.seed)
        self.scheduler = Scheduler()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._numbers = count(1)
        self._given: dict[int, Task] = {}
        self.nodes: dict[str, Node] = {}
        self.tasks = [Task(n, world.task_s(self.random)) for n in range(world.tasks)]
        self.waiting = list(reversed(self.tasks))
        self.left = len(self.tasks)
        self.charged = self.messages = self.doubled = 0
        self._capacity = 0.0
        """Seconds of work that the nodes could have done so far, and when that was."""
        self._counted = self._speed = 0.0
        self._deciding = False

    def run(self) -> Outcome:
        """Run until every task has ended."""
        world = self.world
        for _ in range(world.nodes):
            self._join()
        work = sum(task.seconds for task in self.tasks)
        horizon = work / (world.nodes * world.workers)
        for _ in range(world.deaths):
            self._at(self.random.uniform(0, horizon), self._die)
        for _ in range(world.joins):
            self._at(self.random.uniform(0, horizon), self._join)
        ideal = None
        while self.left:
            self.now, _, event = heapq.heappop(self._events)
            self._count()
            if ideal is None and self._capacity >= work:
                ideal = self.now
            event()
        lost = sum(task.lost for task in self.tasks)
        results = sum(task.results for task in self.tasks)
        return Outcome(
            self.now, ideal or self.now, results, lost, self.doubled, self.charged, self.messages
        )

    def _count(self) -> None:
        self._capacity += self._speed * (self.now - self._counted)
        self._counted = self.now

    def _at(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def _decide_soon(self) -> None:
        """Let the driver decide, once for all that happens meanwhile."""
        if not self._deciding:
            self._deciding = True
            self._at(TURN_S, self._send)

    # --- Nodes ----------------------------------------------------------------------------------

    def _join(self) -> None:
        slow = self.random.random() < self.world.stragglers
        name = f"node-{len(self.nodes)}"
        workers = self.world.workers
        self.nodes[name] = Node(name, workers, 3.0 if slow else 1.0, free=workers)
        self._speed += workers / self.nodes[name].factor
        self.scheduler.joined(name, workers)
        self._decide_soon()

    def _die(self) -> None:
        alive = [node for node in self.nodes.values() if node.alive]
        if len(alive) < 2:
            return
        node = self.random.choice(alive)
        node.alive = False
        self._speed -= node.workers / node.factor
        self._decide_soon()
        for task in self.scheduler.left(node.name) or []:
            task.attempts += 1
            self.charged += 1
            if task.attempts > self.world.retries:
                task.lost = True
                self.left -= 1
            else:
                self.waiting.append(task)

    def _work(self, node: Node) -> None:
        while node.free and node.queue:
            number = node.queue.pop(0)
            node.free -= 1
            self._at(self._given[number].seconds * node.factor, partial(self._end, node, number))

    def _end(self, node: Node, number: int) -> None:
        if not node.alive:
            return
        node.free += 1
        node.done.append(number)
        self._work(node)
        if node.collecting:
            # As the pool of a node does: results gather while tasks wait.
            node.collecting = False
            self._at(self.scheduler.linger if node.queue else 0, lambda: self._reply(node))

    # --- Messages -------------------------------------------------------------------------------

    def _send(self) -> None:
        self._deciding = False
        scheduler = self.scheduler
        for state, share in scheduler.shares(len(self.waiting)):
            tasks = [self.waiting.pop() for _ in range(share)]
            numbered = [(next(self._numbers), task, 0) for task in tasks]
            self._given |= {number: task for number, task, _ in numbered}
            scheduler.gave(state, numbered)
            node, numbers = self.nodes[state.name], [number for number, _, _ in numbered]
            self._message(node, partial(self._arrive, node, numbers, 0))
        for state, share in scheduler.recalls(len(self.waiting)):
            scheduler.gave(state, [])
            node = self.nodes[state.name]
            self._message(node, partial(self._arrive, node, [], share))
        for name, state in scheduler.nodes.items():
            node = self.nodes[name]
            if state.out and not node.asked:
                node.asked = node.collecting = True
                if node.done:
                    node.collecting = False
                    self._reply(node)

    def _message(self, node: Node, event: Callable[[], None]) -> None:
        self.messages += 1
        self._at(WAY_S, lambda: event() if node.alive else None)

    def _arrive(self, node: Node, numbers: list[int], recall: int) -> None:
        node.queue += numbers
        returned = [node.queue.pop() for _ in range(min(recall, len(node.queue)))]
        self._work(node)
        self._at(WAY_S, lambda: self._acknowledge(node))
        if recall:
            self._message(node, lambda: self._take_back(node, returned))

    def _acknowledge(self, node: Node) -> None:
        self.scheduler.arrived(node.name)
        self._decide_soon()

    def _take_back(self, node: Node, numbers: list[int]) -> None:
        self._decide_soon()
        self.waiting += self.scheduler.returned(node.name, numbers)

    def _reply(self, node: Node) -> None:
        done, node.done = node.done, []
        self._message(node, lambda: self._receive(node, done))

    def _receive(self, node: Node, numbers: list[int]) -> None:
        node.asked = False
        self._decide_soon()
        for task in self.scheduler.ended(node.name, numbers, self.now):
            if task is None:
                continue
            task.results += 1
            self.doubled += task.results > 1
            self.left -= 1


def fixed_assignment(world: World) -> float:
    """Return the seconds that it takes if each worker gets every n-th task, and no node dies."""
    rng = random.Random(world.seed)
    slow = [rng.random() < world.stragglers for _ in range(world.nodes)]
    work = [0.0] * (world.nodes * world.workers)
    for number in range(world.tasks):
        work[number % len(work)] += world.task_s(rng)
    return max(
        seconds * (3.0 if slow[worker // world.workers] else 1.0)
        for worker, seconds in enumerate(work)
    )


def main() -> None:
    """Print what a simulation has found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=0.05, help="mean of a task")
    parser.add_argument("--deaths", type=int, default=5)
    parser.add_argument("--joins", type=int, default=5)
    parser.add_argument("--stragglers", type=float, default=0.02)
    args = parser.parse_args()
    world = World(
        *(args.seed, args.nodes, args.workers, args.tasks),
        lambda rng: rng.uniform(0.5 * args.seconds, 1.5 * args.seconds),
        *(args.stragglers, args.deaths, args.joins),
    )
    sys.stdout.write(f"{args.nodes} nodes of {args.workers} workers, seed {args.seed}:\n")
    sys.stdout.write(f"{Simulation(world).run()}\n")
    sys.stdout.write(f"by turns, without deaths and joins: {fixed_assignment(world):.2f} s\n")


if __name__ == "__main__":
    main()
