"""Ray's nodes for a pool: agents are started as there is room, and watched.

A thread does all that takes time. It sleeps until something happens (a call failed, an agent has
started, the driver has no use for a node) or a second is over: then it looks whether there is room
for workers that are missing. Since many calls of Ray never return when its head is gone, another
thread looks whether it still answers.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
import warnings
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import wait as wait_for
from functools import partial
from queue import Empty, SimpleQueue

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.cluster.agent import Agent
from garrison.engines.ray._actor import CONCURRENCY, Bytes, NodeActor
from garrison.engines.ray._connection import connect
from garrison.engines.ray._failures import NodeGone, NodeSilent, store_failure
from garrison.engines.ray._node import Caller, RayNode, Stored
from garrison.engines.ray._places import find_places, strategy
from garrison.engines.ray._shares import Place, Plan
from garrison.errors import EngineLost, EngineMismatch, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.engines.cluster._contract import Driver
    from garrison.engines.ray._connection import Connection
    from garrison.engines.ray._engine import Ray

__all__ = ["RayCluster"]

LOOK_S = 1.0
"""Seconds between two looks for room, and for a head that is gone."""
LOST_AFTER_S = 10.0
"""Seconds without an answer after which the cluster is lost: a head may be restarted."""
SHUN_S = 30.0
"""Seconds until a node that does not answer gets an agent again, if Ray still shows it then."""
END_S = 8.0
"""Seconds that agents have to end by themselves."""


class RayCluster:
    """A cluster for one pool.

    Parameters
    ----------
    engine : Ray
        What the program says about it.
    processes : int or None
        Workers in all; None for as many as there is room for.
    make_agent : callable
        `Agent`.
    """

    def __init__(
        self,
        engine: Ray,
        processes: int | None,
        make_agent: Callable[[bytes, int, str], Any] = Agent,
    ) -> None:
        self._engine, self._processes, self._make_agent = engine, processes, make_agent
        self._plan = Plan(processes, engine.needs)
        self._nodes: dict[str, RayNode] = {}
        """Agents that have started, or are being started, by name."""
        self._lives: dict[str, int] = {}
        self._events: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._outcome: Future[None] = Future()
        self._room_deadline: float | None = None
        self._hinted = 0
        self._idle_since: float | None = None
        self._is_lost = self._is_closed = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="garrison-ray", daemon=True)
        self._pulse = threading.Thread(target=self._feel, name="garrison-ray-pulse", daemon=True)
        self._caller: Caller | None = None
        self._connection: Connection
        self._driver: Driver
        self._setup = b""

    # --- Called by the driver ---------------------------------------------------------------

    def start(self, setup: bytes, driver: Driver) -> None:
        """Connect, and start agents."""
        self._connection = connect(self._engine.address, self._processes)
        self._setup, self._driver = setup, driver
        self._ray = self._connection.ray
        self._actors = self._ray.remote(concurrency_groups=CONCURRENCY)(NodeActor)
        if self._connection.is_client:
            self._caller = Caller()
        try:
            self._thread.start()
            self._pulse.start()
            self._outcome.result()
        except BaseException:
            self.stop()
            raise

    def put(self, data: Any) -> Stored:
        """Store a buffer: nodes read it where their object store has it."""
        if self._is_lost:
            raise EngineLost(f"the pool's Ray at {self._connection.where} went away")
        try:
            return Stored(self._ray.put(Bytes(data)))
        except Exception as error:
            raise store_failure(self._ray, memoryview(data).nbytes, error) from error

    @staticmethod
    def drop(stored: Stored) -> None:
        """Let go of what was stored: Ray frees it when no node has it any more."""
        stored.reference = None

    def demand(self, tasks: int) -> None:
        """Hint how many tasks there are."""
        self._events.put(partial(self._demanded, tasks))

    def stop(self) -> None:
        """End all agents, and disconnect."""
        if self._is_closed or not self._setup:
            return
        self._stopped.set()
        self._tell(self._hint, 0)
        self._events.put(None)
        for thread in (self._thread, self._pulse):
            if thread.is_alive():
                thread.join(LOOK_S if self._is_lost else END_S)
        if not self._is_lost:
            self._end_all()
        if self._caller is not None:
            self._caller.end()
        self._connection.close()
        # Last: after an interrupt the next call does the rest.
        self._is_closed = True

    def _end_all(self) -> None:
        nodes = list(self._nodes.values())
        wait_for([node.end() for node in nodes if not node.is_over], END_S)
        for node in nodes:
            self._kill(node)

    # --- The thread -------------------------------------------------------------------------

    def _tell(self, event: Callable[..., None], *args: Any) -> None:
        self._events.put(partial(event, *args))

    def _watch(self) -> None:
        try:
            self._look()
            next_look = time.monotonic() + LOOK_S
            while not self._is_lost:
                try:
                    event = self._events.get(timeout=max(0.0, next_look - time.monotonic()))
                except Empty:
                    self._look()
                    self._give_back()
                    next_look = time.monotonic() + LOOK_S
                    continue
                if event is None:
                    return
                event()
        except BaseException as error:
            self._lose(error)

    def _look(self) -> None:
        """Start agents that are missing, if there is room."""
        if self._plan.missing == 0:
            return
        places = find_places(self._connection, self._engine.placement_group)
        for place, workers in self._plan.starts(places, time.monotonic()):
            self._open(place, workers)
        if not self._nodes and not self._outcome.done():
            self._wait_for_room()

    def _feel(self) -> None:
        """Look whether the cluster answers. Nothing here waits for Ray."""
        last = time.monotonic()
        while not self._stopped.wait(LOOK_S) and not self._is_lost:
            now = time.monotonic()
            if not self._connection.has_node():
                self._lose(ConnectionError("this machine's node of it is gone"))
            elif self._connection.answers():
                last = now
            elif now - last >= LOST_AFTER_S:
                self._lose(ConnectionError("nothing answers there any more"))

    def _lose(self, error: BaseException) -> None:
        self._is_lost = True
        self._events.put(None)
        for node in list(self._nodes.values()):
            node.is_over = True
        lost = EngineLost(f"the pool's Ray at {self._connection.where} went away: {error}")
        lost.__cause__ = error
        self._settle(lost)
        self._driver.lost(lost)

    def _settle(self, error: BaseException | None) -> None:
        """End `start`, if this is the first outcome."""
        with contextlib.suppress(InvalidStateError):
            self._outcome.set_exception(error) if error else self._outcome.set_result(None)

    def _wait_for_room(self) -> None:
        """Give up after a while without any room; a cluster that grows is asked to."""
        now = time.monotonic()
        self._room_deadline = self._room_deadline or now + self._engine.timeout
        if not self._connection.can_grow or now >= self._room_deadline:
            self._settle(
                EngineUnavailable(
                    f"Ray at {self._connection.where} has no room for a worker, which takes "
                    f"{dict(self._engine.needs.worker)}: end others, ask for less, or add nodes"
                )
            )
        else:
            self._hint(self._processes or 1)

    # --- Nodes ------------------------------------------------------------------------------

    def _open(self, place: Place, workers: int) -> None:
        life = self._lives[place.key] = self._lives.get(place.key, 0) + 1
        name = place.host if life == 1 else f"{place.host} #{life}"
        needs = self._engine.needs.of(workers)
        options = {
            "num_cpus": needs.pop("CPU", 0),
            "num_gpus": needs.pop("GPU", 0),
            "resources": needs,
            "scheduling_strategy": strategy(place, self._engine.placement_group),
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if self._engine.runtime_env:
            options["runtime_env"] = dict(self._engine.runtime_env)
        actor = self._actors.options(**options).remote(self._make_agent)
        node = RayNode(self._ray, actor, place, workers, name, self._run, self._told)
        self._nodes[name] = node
        node.open(self._setup).add_done_callback(partial(self._tell, self._opened, node))

    def _run(self, call: Callable[[], None]) -> None:
        if self._caller is None:
            call()
        else:
            self._caller.run(call)

    def _opened(self, node: RayNode, opened: Future[Any]) -> None:
        if opened.exception() is None and not node.is_over:
            node.watch()
            self._driver.joined(node)
            self._settle(None)

    def _told(self, node: RayNode, error: BaseException | None) -> None:
        """Hear of a node, in any thread."""
        if error is not None:
            self._tell(self._failed, node, error)
        else:
            self._tell(self._released, node)

    def _failed(self, node: RayNode, error: BaseException) -> None:
        if node.is_over:
            return
        self._retire(node)
        now = time.monotonic()
        self._plan.ended(
            node.place.key, now + (SHUN_S if isinstance(error, NodeSilent) else LOOK_S)
        )
        if not self._outcome.done():
            self._failed_to_start(node, error)
        elif isinstance(error, EngineMismatch):
            warnings.warn(f"a node is left out: {error}", RuntimeWarning, stacklevel=1)
            self._plan.ended(node.place.key, float("inf"))
        self._driver.left(node.name, str(error))
        self._look()

    def _failed_to_start(self, node: RayNode, error: BaseException) -> None:
        if isinstance(error, EngineMismatch):
            self._settle(error)
        elif not isinstance(error, NodeGone):
            failure = EngineUnavailable(f"the agent on node {node.name} did not start: {error}")
            failure.__cause__ = error
            self._settle(failure)

    def _released(self, node: RayNode) -> None:
        if node.is_over:
            return
        self._nodes.pop(node.name, None)
        self._plan.gave_back(node.place.key)
        node.end().add_done_callback(lambda _: self._tell(self._kill, node))

    def _retire(self, node: RayNode) -> None:
        """Make sure that nothing of a node that failed runs on."""
        node.is_over = True
        self._nodes.pop(node.name, None)
        self._kill(node)

    def _kill(self, node: RayNode) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(node.actor)

    # --- Hints ------------------------------------------------------------------------------

    def _give_back(self) -> None:
        """Have nodes released after a while without tasks."""
        patience, since = self._engine.idle_timeout, self._idle_since
        if patience is None or since is None or time.monotonic() - since < patience:
            return
        for node in list(self._nodes.values())[1:]:
            self._driver.idle(node.name)

    def _demanded(self, tasks: int) -> None:
        self._idle_since = None if tasks else time.monotonic()
        wanted = self._plan.demanded(tasks)
        if wanted > self._plan.workers and self._plan.missing != 0:
            self._hint(wanted)
        elif not tasks:
            self._hint(0)

    def _hint(self, workers: int) -> None:
        """Ask Ray's autoscaler for room for so many workers, or withdraw that."""
        if workers == self._hinted or not self._connection.can_grow:
            return
        self._hinted = workers
        sdk = importlib.import_module("ray.autoscaler.sdk")
        sdk.request_resources(bundles=[dict(self._engine.needs.worker)] * workers)
