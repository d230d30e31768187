"""``engine="ray"``: a pool over the nodes of a Ray cluster.

::

    driver                                          node
    ──────                                          ────
    Ray.backend ─ ClusterBackend ─ RayCluster
                                     │ starts ────▶ NodeActor ─ Agent ─ local pool of processes
                                   RayNode ───────▶   .give(message, blobs)   in their order
                                           ───────▶   .collect(seconds)       beside them
                     watcher thread ◀── .watch() ──   fails when the actor is gone

There is one actor on each node, with the CPUs of all its workers. `_shares` decides how many there
are and where, without I/O; `_connection` knows how to reach Ray, and how to keep it quiet.
"""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.engines.ray._engine import Ray

__all__ = ["Ray"]

_HOMES = {"_engine": ("Ray",)}
_load, _own_names = lazily(__name__, globals(), _HOMES)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load what is first used now."""
        return _load(name)

    def __dir__() -> list[str]:
        return _own_names()
