"""`Namespace`: attributes that processes share."""

from __future__ import annotations

from collections.abc import Callable

from garrison._standard import managers
from garrison._typing import Any
from garrison.store import _backend
from garrison.store._backend import Store
from garrison.store.containers._base import Face, Shown

__all__ = ["Namespace"]


class Namespace(Face, managers.NamespaceProxy):
    """An object whose attributes are shared; names that begin with an underscore are not.

    Parameters
    ----------
    store
        The engine.
    c : int
        The container's number.
    """

    __slots__ = ()
    _KIND = _backend.NAMESPACE
    _PROXY = "NamespaceProxy"
    _TYPEID = "Namespace"
    _CYCLE = "Namespace(...)"

    # All that the face itself has begins with an underscore.
    def __getattribute__(self, name: str) -> Any:
        if name[:1] == "_":
            return _own(self, name)
        try:
            return _store(self).dict_get(_c(self), name)
        except KeyError:
            raise _no_attribute(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name[:1] == "_":
            object.__setattr__(self, name, value)
        else:
            self._store.dict_set(self._c, name, value)

    def __delattr__(self, name: str) -> None:
        if name[:1] == "_":
            object.__delattr__(self, name)
            return
        try:
            self._store.dict_delete(self._c, name)
        except KeyError:
            raise _no_attribute(name) from None

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *self._store.scan(self._c, "keys")]

    def _getvalue(self) -> managers.Namespace:
        plain = managers.Namespace()
        vars(plain).update(self._store.snapshot(self._c))
        return plain

    def _parts(self, shown: Shown) -> str:
        return f"Namespace({shown.attributes(self)})"


_own = object.__getattribute__
_store: Callable[[Face], Store] = vars(Face)["_store"].__get__
_c: Callable[[Face], int] = vars(Face)["_c"].__get__


def _no_attribute(name: str) -> AttributeError:
    return AttributeError(f"'Namespace' object has no attribute '{name}'")
