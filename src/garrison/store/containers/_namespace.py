"""`Namespace`: attributes that processes share."""

from __future__ import annotations

from collections.abc import Callable

from garrison._standard import managers
from garrison._typing import Any
from garrison.store._backend import Kind, StoreBackend
from garrison.store.containers._base import Container, ContainerRepr

__all__ = ["Namespace"]


class Namespace(Container, managers.NamespaceProxy):
    """An object whose attributes are shared; names that begin with an underscore are not.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     config = manager.Namespace(debug=True)
    ...     config.level = 3
    ...     print(config)
    Namespace(debug=True, level=3)
    """

    __slots__ = ()
    __module__ = "garrison.store"
    _kind = Kind.NAMESPACE.value
    _proxy_name = "NamespaceProxy"
    _typeid = "Namespace"
    _recursive_repr = "Namespace(...)"

    # All attributes of the object itself begin with an underscore.
    def __getattribute__(self, name: str) -> Any:
        if name[:1] == "_":
            return _own(self, name)
        try:
            return _backend_of(self).dict_get(_id_of(self), name)
        except KeyError:
            raise _no_attribute(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name[:1] == "_":
            object.__setattr__(self, name, value)
        else:
            self._backend.dict_set(self._container_id, name, value)

    def __delattr__(self, name: str) -> None:
        if name[:1] == "_":
            object.__delattr__(self, name)
            return
        try:
            self._backend.dict_delete(self._container_id, name)
        except KeyError:
            raise _no_attribute(name) from None

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *self._backend.scan(self._container_id, "keys")]

    def _getvalue(self) -> managers.Namespace:
        plain = managers.Namespace()
        vars(plain).update(self._backend.snapshot(self._container_id))
        return plain

    def _repr_items(self, shown: ContainerRepr) -> str:
        return f"Namespace({shown.attributes(self)})"


_own = object.__getattribute__
_backend_of: Callable[[Container], StoreBackend] = vars(Container)["_backend"].__get__
_id_of: Callable[[Container], int] = vars(Container)["_container_id"].__get__


def _no_attribute(name: str) -> AttributeError:
    return AttributeError(f"'Namespace' object has no attribute '{name}'")
