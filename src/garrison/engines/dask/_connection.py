"""The driver's connection to a Dask cluster: a client of its own, used in that client's loop."""

from __future__ import annotations

import asyncio
import warnings
from concurrent.futures import Future
from contextlib import suppress

import distributed
from distributed.versions import VersionMismatchWarning, get_versions

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.dask._worker import OPERATION, plain
from garrison.errors import EngineMismatch, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Connection", "Route"]

_REACH_S = 3.0
"""Seconds to reach a worker directly, before the scheduler is asked to pass messages on."""


class Route:
    """How a worker is called: directly, or through the scheduler (a gateway, a port-forward)."""

    def __init__(self, client: Any, worker: str, *, direct: bool) -> None:
        self._client = client
        self.worker: str = worker
        self.direct: bool = direct

    async def call(self, operation: str, **message: Any) -> Any:
        """Call a handler of the worker; raise what it raises, or an `OSError`."""
        if self.direct:
            return await getattr(self._client.rpc(self.worker), operation)(**message)
        message["op"] = operation
        return await self._client.scheduler.proxy(worker=self.worker, msg=message)

    async def call_agent(self, agent: str, method: str, *arguments: Any) -> list[bytes]:
        """Call an agent there; a `ConnectionError` says why it cannot answer."""
        message = {"agent": agent, "method": method, "arguments": arguments}
        answer = await self.call(OPERATION, **message)
        if "error" in answer:
            raise ConnectionError(answer["error"])
        return [bytes(plain(reply)) for reply in answer["replies"]]


class PoolClient(distributed.Client):  # type: ignore[misc]
    """A client whose thread ends if there is no scheduler."""

    def start(self, **options: Any) -> Any:
        """Connect."""
        try:
            return super().start(**options)
        except BaseException:
            self._loop_runner.stop()
            raise


class Connection:
    """A client of its own: nothing of the program's client is changed, and it ends with the pool.

    Parameters
    ----------
    address : str
        The scheduler's.
    security : distributed.Security or None
        As `distributed.Client` takes it.
    timeout : float
        Seconds to reach the scheduler.

    Raises
    ------
    EngineUnavailable
        If there is none.
    """

    def __init__(self, address: str, security: Any, timeout: float) -> None:
        self.address: str = address
        options = {"set_as_default": False, "name": "garrison", "security": security}
        try:
            with warnings.catch_warnings():
                # Versions that matter are compared by `reach`.
                warnings.simplefilter("ignore", VersionMismatchWarning)
                self.client: Any = PoolClient(address, timeout=timeout, **options)
        except (OSError, ValueError, TypeError, asyncio.TimeoutError) as error:
            raise EngineUnavailable(
                f"no Dask scheduler answers at {address}: {error}; start one with "
                "`dask scheduler`, or check the address and its security"
            ) from error
        self._loop = self.client.loop.asyncio_loop

    # --- Any thread -------------------------------------------------------------------------

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine in the client's loop."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:  # the loop is closed
            coroutine.close()
            failed: Future[Any] = Future()
            failed.set_exception(ConnectionError(f"the connection is closed: {error}"))
            return failed

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in the client's loop, if it still runs."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Disconnect: the scheduler releases all that the client wanted."""
        with suppress(OSError, TimeoutError, asyncio.TimeoutError):
            self.client.close(timeout=5)

    # --- The client's loop ------------------------------------------------------------------

    async def threads(self, worker: str | None = None) -> dict[str, int]:
        """Return the threads of each worker, or of one."""
        found = await self.client.scheduler.ncores(workers=None if worker is None else [worker])
        return dict(found)

    async def answers(self) -> bool:
        """Whether the scheduler is there."""
        try:
            await asyncio.wait_for(self.threads(), _REACH_S)
        except (OSError, asyncio.TimeoutError):
            return False
        return True

    async def reach(self, worker: str) -> Route:
        """Find out how a worker is reached, and that it has the same versions.

        Raises
        ------
        EngineMismatch
            If it has not.
        OSError
            If it is gone.
        """
        packages = {"packages": ["garrison"]}
        route = Route(self.client, worker, direct=True)
        try:
            found = await asyncio.wait_for(route.call("versions", **packages), _REACH_S)
        except (OSError, asyncio.TimeoutError):
            route = Route(self.client, worker, direct=False)
            found = await route.call("versions", **packages)
        _check_versions(worker, found)
        return route

    async def scatter(self, data: Any, workers: list[str], *, direct: bool) -> Any:
        """Store data on one of some workers; return a Dask future."""
        (stored,) = await self.client.scatter([data], workers=workers, direct=direct, hash=False)
        return stored

    def submit(self, function: Any, *arguments: Any, key: str, worker: str) -> Any:
        """Submit a task that runs on one worker, or never."""
        where = {"workers": [worker], "allow_other_workers": False}
        return self.client.submit(function, *arguments, key=key, pure=False, priority=100, **where)


def _check_versions(worker: str, found: dict[str, Any]) -> None:
    here, there = (_versions(each) for each in (get_versions(packages=["garrison"]), found))
    if here != there:
        raise EngineMismatch(
            f"the Dask worker {worker} has {_words(there)}, and this driver {_words(here)}: "
            "tasks need the same on both; install it there, or run the driver there"
        )


def _versions(found: dict[str, Any]) -> tuple[str, str]:
    packages = found["packages"]
    python = ".".join(str(packages["python"]).split(".")[:2])
    return python, str(packages.get("garrison") or "")


def _words(versions: tuple[str, str]) -> str:
    python, garrison = versions
    return f"Python {python} and {f'garrison {garrison}' if garrison else 'no garrison'}"
