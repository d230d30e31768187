"""Methods that are bound once, when an object is made.

Looked up on the class, ``with lock:`` would bind two methods anew each time, and that costs more
than taking the lock does. So they stand in slots of the instance, and in slots only: a subclass
that overrides one is not shadowed by its instances.

A bound method may travel alone, as in ``Process(target=event.set)``. It is of the core's object, so
each module that binds methods also says how that object is pickled.
"""

from __future__ import annotations

from garrison._typing import Any

__all__ = ["bind"]


def bind(instance: object, owner: type, **methods: Any) -> None:
    """Put methods into the slots that `owner` has for them."""
    for name, method in methods.items():
        getattr(owner, name).__set__(instance, method)
