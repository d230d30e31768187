"""The attributes of a proxy, for locks whose methods are not called in a server."""

from __future__ import annotations

from garrison._standard import managers
from garrison._typing import Any
from garrison.manager._remote_errors import RemoteError

__all__ = ["ProxyAttributes"]


class ProxyAttributes:
    """The attributes of `multiprocessing.managers.BaseProxy`; mixed in before a class of it."""

    __slots__ = ()
    _serializer = "pickle"
    _manager = _authkey = None
    _id: Any
    _typeid: Any
    _exposed_: Any

    @property
    def _token(self) -> managers.Token:
        return managers.Token(self._typeid, None, self._id)

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - the standard signature
        """Call a method of this object itself: no server has one."""
        if methodname in {"__str__", "__repr__"}:
            return str(self)
        if methodname not in {*self._exposed_, "locked", "__getattribute__"}:
            kind, shown = self._typeid, self._exposed_
            msg = f"method {methodname!r} of {kind} object is not in exposed={shown!r}"
            raise RemoteError(f"AttributeError: {msg}\n")
        return getattr(self, methodname)(*args, **kwds)

    def _getvalue(self) -> Any:
        raise RemoteError(f"TypeError: cannot pickle {self!s}\n")

    def _connect(self) -> None:
        """Do nothing: there is no connection."""

    _incref = _after_fork = _connect
