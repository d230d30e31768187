"""`Value`: one value that processes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, TypedBase
from garrison.store._backend import Kind
from garrison.store._transaction import single_step
from garrison.store.containers._base import Container, ContainerRepr
from garrison.store.containers._sequence import update_item

__all__ = ["Value"]

WHOLE = frozenset("bBhHiIlLqQ")
"""Typecodes of whole numbers."""


T = TypeVar("T")

if TYPE_CHECKING:
    from multiprocessing.managers import ValueProxy as ValueBase
else:
    ValueBase = TypedBase(managers.ValueProxy)


class Value(Container, ValueBase[T]):
    """One value that processes share: ``manager.Value()``. As in the standard library, any object.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     total = manager.Value("i", 1)
    ...     before = total.add(2)
    ...     print(before, total.value)
    1 3
    """

    __slots__ = ("_code",)
    __module__ = "garrison.store"
    _kind = Kind.VALUE.value
    _proxy_name = "ValueProxy"
    _typeid = "Value"
    _recursive_repr = "Value(...)"
    _code: str

    def get(self) -> T:
        """Return the value."""
        return self._backend.list_get(self._container_id, 0)  # type: ignore[no-any-return]

    def set(self, value: T) -> None:
        """Replace the value."""
        self._backend.list_set(self._container_id, 0, value)

    @property
    def value(self) -> T:
        """The value. ``v.value += 1`` is two steps: use `add`."""
        return self._backend.list_get(self._container_id, 0)  # type: ignore[no-any-return]

    @value.setter
    def value(self, value: T) -> None:
        self._backend.list_set(self._container_id, 0, value)

    @property
    def typecode(self) -> str:
        """The typecode that the value was made with. It is shown, and not enforced."""
        try:
            return self._code
        except AttributeError:
            self._code = self._metadata.typecode.decode()
            return self._code

    def add(self, amount: Any = 1) -> Any:
        """Add to a number, and return what it was before.

        Raises
        ------
        TypeError
            If one of the two is neither `int` nor `float`.
        """
        if type(amount) is int and self.typecode in WHOLE:
            new = self._backend.list_add(self._container_id, 0, amount)
            return new - amount
        with single_step(self._backend):
            before = self.get()
            self._backend.list_add(self._container_id, 0, amount)
        return before

    def exchange(self, value: T) -> T:
        """Replace the value, and return what it was before."""
        with single_step(self._backend):
            before = self.get()
            self.set(value)
        return before

    def compare_exchange(self, expected: T, desired: T) -> bool:
        """Replace the value if it is equal to `expected`; return whether it was."""
        with single_step(self._backend):
            if self.get() != expected:
                return False
            self.set(desired)
        return True

    def update_with(self, fn: Callable[[T], T]) -> T:
        """Replace the value by what `fn` returns for it, as one step; return the new value.

        Other writers wait meanwhile, so `fn` should be short. Over a network `fn` is called again
        if another writer came first.
        """
        return cast("T", update_item(self, 0, fn))

    def _getvalue(self) -> managers.Value:
        (value,) = self._backend.snapshot(self._container_id)
        return managers.Value(self.typecode, value)

    def _repr_items(self, shown: ContainerRepr) -> str:
        return f"Value({self.typecode!r}, {shown.entries(self)})"
