"""The objects of a server, with their references.

No I/O: holders are names of sessions, arguments and results are Python objects.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.manager._types import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from garrison.manager._types import RegisteredType

__all__ = [
    "NotExposed",
    "ObjectEntry",
    "ObjectGone",
    "ObjectTable",
    "public_methods",
]


@dataclass
class ObjectEntry:
    """One object and its references by holder: sessions, and pickles in transfer."""

    object: Any
    typeid: str
    exposed: frozenset[str]
    method_to_typeid: Mapping[str, str]
    holders: Counter[Hashable] = field(default_factory=Counter)


def all_methods(instance: object) -> list[str]:
    """Return the names of the exposed methods of an object."""
    return [name for name in dir(instance) if callable(getattr(instance, name, None))]


def public_methods(instance: object) -> list[str]:
    """Return the names of an object's methods that do not start with an underscore."""
    return [name for name in all_methods(instance) if not name.startswith("_")]


_FALLBACKS: dict[str, Callable[[Any], Any]] = {
    "__str__": str,
    "__repr__": repr,
    "#GETVALUE": lambda instance: instance,
}


class ObjectTable:
    """All objects of a server. Safe to use from several threads; calls run under no lock."""

    def __init__(self, registry: Mapping[str, RegisteredType]) -> None:
        self._registry = registry
        self._entries: dict[str, ObjectEntry] = {}
        self._known: dict[int, str] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def create(self, holder: Hashable, typeid: str, args: Any, kwds: Any) -> ObjectRef:
        """Make an object of a registered type, with a reference of `holder`."""
        try:
            known = self._registry[typeid]
        except KeyError:
            names = ", ".join(map(repr, sorted(self._registry))) or "none"
            msg = f"no type {typeid!r} is registered with this server; those that are: {names}"
            raise KeyError(msg) from None
        if known.callable is not None:
            made = known.callable(*args, **kwds)
        elif kwds or len(args) != 1:
            raise ValueError("Without callable, must have one non-keyword argument")
        else:
            made = args[0]
        return self._enter(holder, typeid, known, made)

    def _enter(self, holder: Hashable, typeid: str, known: RegisteredType, made: Any) -> ObjectRef:
        exposed = public_methods(made) if known.exposed is None else list(known.exposed)
        types = known.method_to_typeid or {}
        with self._lock:
            # An object that is registered twice is one object.
            ident = self._known.get(id(made))
            if ident is None:
                ident = f"{next(self._numbers):x}"
                self._known[id(made)] = ident
            names = frozenset([*exposed, *types])
            entry = self._entries.setdefault(ident, ObjectEntry(made, typeid, names, types))
            entry.typeid, entry.exposed, entry.method_to_typeid = typeid, names, types
            entry.holders[holder] += 1
        return ObjectRef(typeid, ident, (*exposed, *types))

    def find(self, ident: str) -> ObjectEntry:
        """Return an object's entry."""
        try:
            return self._entries[ident]
        except KeyError:
            msg = f"object {ident!r} is gone from this server: it had no proxy any more"
            raise ObjectGone(msg) from None

    def call(self, holder: Hashable, ident: str, method: str, args: Any, kwds: Any) -> Any:
        """Call an exposed method; if its result is an `ObjectRef`, the holder gets a reference."""
        entry = self.find(ident)
        if method not in entry.exposed:
            return self._fall_back(entry, method, args, kwds)
        result = getattr(entry.object, method)(*args, **kwds)
        typeid = entry.method_to_typeid.get(method)
        return result if typeid is None else self.create(holder, typeid, (result,), {})

    @staticmethod
    def _fall_back(entry: ObjectEntry, method: str, args: Any, kwds: Any) -> Any:
        fallback = _FALLBACKS.get(method)
        if fallback is None:
            msg = (
                f"method {method!r} of {type(entry.object)!r} object is not in "
                f"exposed={sorted(entry.exposed)!r}"
            )
            raise NotExposed(msg)
        return fallback(entry.object, *args, **kwds)

    def proxytype(self, typeid: str) -> Any:
        """Return the proxy type of a type."""
        return self._registry[typeid].proxytype

    # -- references -------------------------------------------------------------------------------

    def acquire_ref(self, holder: Hashable, ident: str) -> None:
        """Add a reference of `holder`."""
        with self._lock:
            self.find(ident).holders[holder] += 1

    def release_ref(self, holder: Hashable, ident: str) -> None:
        """Release one reference of `holder`."""
        with self._lock:
            entry = self._entries.get(ident)
            if entry is None or entry.holders[holder] <= 0:
                return
            entry.holders[holder] -= 1
            if not entry.holders[holder]:
                del entry.holders[holder]

    def release_all(self, holder: Hashable) -> None:
        """Release all references of `holder`."""
        with self._lock:
            for entry in self._entries.values():
                entry.holders.pop(holder, None)

    def unreferenced(self) -> set[str]:
        """Return the objects without references."""
        with self._lock:
            return {ident for ident, entry in self._entries.items() if not entry.holders}

    def remove_unreferenced(self, condemned: set[str]) -> None:
        """Drop those of these objects that still have no reference."""
        gone = []
        with self._lock:
            for ident in condemned:
                entry = self._entries.get(ident)
                if entry is not None and not entry.holders:
                    gone.append(self._entries.pop(ident))
                    self._known.pop(id(entry.object), None)
        # Outside of the lock: they may contain proxies, whose end calls this table.
        gone.clear()

    def __len__(self) -> int:
        with self._lock:
            return sum(1 for entry in self._entries.values() if entry.holders)

    def debug_info(self) -> str:
        """Describe the objects in use, a line or two each."""
        with self._lock:
            held = [(ident, each) for ident, each in self._entries.items() if each.holders]
        return "\n".join(
            f"  {ident}:       refcount={sum(entry.holders.values())}\n    {str(entry.object)[:75]}"
            for ident, entry in held
        )


class ObjectGone(GarrisonError, LookupError):
    """The object was dropped: no proxy of it was left."""


class NotExposed(GarrisonError, AttributeError):
    """A method that the type does not expose."""
