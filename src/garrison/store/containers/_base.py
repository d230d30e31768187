"""What all faces have in common: where the data is, and how it looks when shown."""

from __future__ import annotations

import operator
import threading
import types

from garrison import _standard
from garrison._pickling import register
from garrison._standard import managers
from garrison._typing import Any, ClassVar
from garrison.store._backend import NAMES, Store
from garrison.store._plain_copies import is_cloudpickle, plainly, reduced

__all__ = ["MISSING", "Face"]

MOST_ENTRIES = 10_000
"""Entries that are shown at most, over all levels."""
MOST_TEXT = 10_000
"""Characters of one value that are shown at most."""


class _Missing:
    """Says that an argument was not given."""

    def __repr__(self) -> str:
        return "<not given>"


MISSING: Any = _Missing()


class Face(managers.BaseProxy):
    """A container in a store, as this process uses it.

    Any number of faces may show the same container, in any process; they have nothing of it but
    its number. Two faces of one container are equal. To programs they are the proxies that a
    manager of the standard library would give them.
    """

    __slots__ = ("_c", "_keeper", "_store")

    _keeper: object
    """What must live as long as this does."""
    _nested = False
    """Whether a plain container was stored here: to programs it is still the plain one."""
    _KIND: ClassVar[int]
    _PROXY: ClassVar[str]
    """The name of the proxy's type, and that of the object's, as `repr` shows them."""
    _TYPEID: ClassVar[str]
    _CYCLE: ClassVar[str] = "[...]"
    """What is shown of it inside of itself."""

    def __init__(self, store: Store, c: int) -> None:
        self._store = store
        self._c = c

    def __container__(self) -> tuple[bytes, int, int]:
        return self._store.uuid, self._KIND, self._c

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        register(cls, Face._handle)

    def _handle(self) -> tuple[Any, ...]:
        """Return what leads to the same container in another process."""
        hooks: Any = getattr(self._store, "hooks", None)
        home = getattr(hooks, "home", None)
        return (type(self), (self._store, self._c)) if home is None else home.written(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._handle() if is_cloudpickle() else reduced(plainly(self), protocol)

    def __eq__(self, other: object) -> bool:
        return self._is(other) if isinstance(other, Face) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.__container__())

    def _is(self, other: object) -> bool:
        """Whether both are faces of one container."""
        return isinstance(other, Face) and self.__container__() == other.__container__()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    # -- what a proxy of the standard library has --------------------------------------------------

    _serializer = "pickle"
    _manager = _authkey = None

    @property
    def _id(self) -> str:
        return f"{self._c:x}"

    @property
    def _token(self) -> managers.Token:
        home: Any = getattr(getattr(self._store, "hooks", None), "home", None)
        return managers.Token(self._TYPEID, getattr(home, "address", None), self._id)

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - the standard signature
        """Call a method of the container: of the face itself, since nothing of it is elsewhere."""
        if methodname in _FALLBACKS:
            return _FALLBACKS[methodname](self._getvalue(), *args, **kwds)
        method = None if methodname == "_callmethod" else getattr(self, methodname, None)
        if method is None:
            kind, exposed = type(self).__name__, getattr(self, "_exposed_", ())
            msg = f"method {methodname!r} of {kind} object is not in exposed={exposed!r}"
            raise managers.RemoteError(f"AttributeError: {msg}\n")
        return method(*args, **kwds)

    def _plain(self) -> Any:
        """Return a plain object with the same contents; nested containers stay live."""
        return self._store.snapshot(self._c)

    def _getvalue(self) -> Any:
        """Return a plain copy; what is nested is plain as well, but for containers of their own."""
        return self._store.snapshot(self._c)

    def _connect(self) -> None:
        """Nothing has to be connected."""

    _incref = _after_fork = _connect

    def __repr__(self) -> str:
        if self._nested:
            return str(self)
        return f"<{self._PROXY} object, typeid {self._TYPEID!r} at {id(self):#x}>"

    def __str__(self) -> str:
        return _shown.text(self)

    def _parts(self, shown: Shown) -> str:  # noqa: ARG002 - others show their entries
        """Return what `str` shows."""
        return f"<{NAMES[self._KIND]} {self._c}>"

    __class_getitem__: Any = classmethod(types.GenericAlias)


_standard.hide(Face, "nothing of it lives in a server")


class Shown(threading.local):
    """The text of a container in the making: of all nested ones at most so much."""

    def __init__(self) -> None:
        self._left = 0
        self._above: list[Any] = []

    def text(self, value: Any) -> str:
        """Return the repr of a value, cut where it gets too long."""
        if not isinstance(value, Face):
            text = repr(value)
            return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."
        place = value.__container__()
        if place in self._above:
            return value._CYCLE
        if not self._above:
            self._left = MOST_ENTRIES
        self._above.append(place)
        try:
            return value._parts(self)
        finally:
            self._above.pop()

    def entries(self, face: Face, what: str = "values", pair: str = "{}: {}") -> str:
        """Return the entries of a face, as many as there is room for."""
        found = face._store.scan(face._c, what)
        shown = []
        for entry in found:
            if self._left <= 0:
                shown.append("...")
                found.close()
                break
            self._left -= 1
            parts = map(self.text, entry if what == "items" else (entry,))
            shown.append((pair if what == "items" else "{}").format(*parts))
        return ", ".join(shown)

    def attributes(self, face: Face) -> str:
        """Return the entries of a namespace, by name."""
        pairs = sorted(face._store.scan(face._c, "items"))
        return ", ".join(f"{name}={self.text(value)}" for name, value in pairs)


_shown = Shown()

_FALLBACKS: dict[str, Any] = {"#GETVALUE": lambda value: value, "__str__": str, "__repr__": repr}
"""What every proxy answers of the object itself."""


def position(index: Any, what: str) -> int:
    """Return an index as a number, or raise as the plain type would."""
    try:
        return operator.index(index)
    except TypeError:
        msg = f"{what} not {type(index).__name__}"
        raise TypeError(msg) from None
