"""Ray's errors in garrison's words."""

from __future__ import annotations

import pickle

from garrison._typing import Any
from garrison.errors import EngineMismatch, EngineUnavailable, SharedMemoryFull

__all__ = ["NodeGone", "NodeSilent", "is_mismatch", "node_failure", "store_failure"]


class NodeGone(EngineUnavailable):
    """A node of the cluster does not answer any more."""


class NodeSilent(NodeGone):
    """It cannot be reached, and Ray does not know of its end yet."""


def is_mismatch(error: BaseException) -> str | None:
    """Return what Ray says if versions differ, or if garrison is not there at all."""
    text = str(error)
    if "No module named 'garrison" in text:
        return "garrison is not installed there"
    if "ersion mismatch" in text or "versions differ" in text or "version differ" in text:
        return " ".join(text.split())
    return None


def node_failure(ray: Any, name: str, error: BaseException) -> BaseException:
    """Return the failure of a call to a node: what its agent raised, or `NodeGone`.

    Ray raises errors of the actor's code as an instance of both their class and `RayTaskError`.
    """
    cause = getattr(error, "cause", None)
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(cause, Exception):
        if not isinstance(cause, (ray.exceptions.RayError, pickle.UnpicklingError)):
            return cause
        error = cause
    mismatch = is_mismatch(error)
    if mismatch is not None:
        return EngineMismatch(f"node {name}: {mismatch}")
    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return NodeSilent("it does not answer: its machine or its Ray is gone, or out of reach")
    return NodeGone(_reason(ray, error))


def _reason(ray: Any, error: BaseException) -> str:
    kinds = ray.exceptions
    if isinstance(error, kinds.NodeDiedError):
        return "its machine is gone"
    if isinstance(error, (kinds.ActorUnschedulableError, kinds.ActorPlacementGroupRemoved)):
        return "it is gone, or its place was given to others"
    if isinstance(error, kinds.ActorDiedError):
        return _death(str(error))
    return " ".join(str(error).split()) or type(error).__name__


def _death(text: str) -> str:
    """Take the sentence out of Ray's many lines that says something."""
    lines = [line.strip() for line in text.splitlines()]
    said = [
        line for line in lines if line.startswith(("The actor is dead", "The actor died because"))
    ]
    short = (said or lines or [""])[-1].partition(" Some common causes include")[0]
    return f"Ray's process for it died: {short}"


def store_failure(ray: Any, size: int, error: BaseException) -> BaseException:
    """Return the failure of a `put`."""
    full = (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)
    if isinstance(error, full) or "ObjectStoreFull" in repr(error):
        return SharedMemoryFull(
            f"Ray's object store has no room for {size:,} bytes: share less at a time, close() "
            "what is not needed, or give Ray more (object_store_memory)"
        )
    return error
