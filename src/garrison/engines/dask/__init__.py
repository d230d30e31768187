"""Pools over the workers of a Dask cluster: ``Pool(engine="dask")``, ``"tcp://..."``, a client.

::

    DaskCluster ─ Connection (a client of its own) ─▶ scheduler: workers that come and go
         │                                                │ a task that is an agent
         └ DaskNode.give, collect ───────────────────▶ worker: AgentHost ─ Agent

An agent is a task that has seceded: it takes none of its worker's threads, and lasts as long as its
future, so it ends with the driver, however the driver ends. The scheduler knows that the worker is
in use. Messages do not pass through tasks: they are calls of a handler of the worker.
"""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.engines.dask._engine import Dask

__all__ = ["Dask"]

_load, _own_names = lazily(__name__, globals(), {"_engine": ("Dask",)})

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load what is first used now."""
        return _load(name)

    def __dir__() -> list[str]:
        return _own_names()
