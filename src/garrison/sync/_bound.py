"""Methods that are bound once, when an object is made.

Looked up on the class, ``with lock:`` would bind two methods anew each time, and that costs more
than taking the lock does. So they stand in slots of the instance, and in slots only: a subclass
that overrides one is not shadowed by its instances.

A bound method may travel alone, as in ``Process(target=event.set)``. It is of the core's object, so
that object may travel as well.
"""

from __future__ import annotations

from garrison._pickling import register
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bind", "let_travel"]


def bind(instance: object, owner: type, **methods: Any) -> None:
    """Put methods into the slots that `owner` has for them."""
    for name, method in methods.items():
        getattr(owner, name).__set__(instance, method)


def let_travel(kind: Any, then: Callable[[Any], object] | None = None) -> None:
    """Have transfers pickle the core's objects of a kind.

    Parameters
    ----------
    kind : type
        One whose objects have a `place`: the arguments that the same object is made of again.
    then : callable, optional
        Called with each object that has arrived; it must be found by its name.
    """
    register(kind, lambda core: (_rebuild, (then, kind, *core.place)))


def _rebuild(then: Callable[[Any], object] | None, kind: Any, *place: Any) -> Any:
    core = kind(*place)
    if then is not None:
        then(core)
    return core
