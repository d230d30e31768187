"""Methods of the core's objects, bound once and stored in slots of the instance.

A method of the class would be bound anew by each ``with lock:``, which costs more than acquiring
the lock. Only slots are used, never the instance's dict, so a subclass can override a method.

A bound method can be pickled alone, as in ``Process(target=event.set)``. It belongs to the core's
object, so that object can be pickled too.
"""

from __future__ import annotations

from garrison._pickling import register
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bind_methods", "register_transfer"]


def bind_methods(instance: object, owner: type, **methods: Any) -> None:
    """Store methods in the slots that `owner` has for them."""
    for name, method in methods.items():
        getattr(owner, name).__set__(instance, method)


def register_transfer(kind: Any, then: Callable[[Any], object] | None = None) -> None:
    """Let transfers pickle the core's objects of a type.

    Parameters
    ----------
    kind : type
        Its objects have a `place`: the arguments with which the same object is made again.
    then : callable, optional
        Called with each received object; a function that can be imported.
    """
    register(kind, lambda core: (_rebuild, (then, kind, *core.place)))


def _rebuild(then: Callable[[Any], object] | None, kind: Any, *place: Any) -> Any:
    core = kind(*place)
    if then is not None:
        then(core)
    return core
