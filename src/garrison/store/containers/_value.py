"""`Value`: one value that processes share."""

from __future__ import annotations

from collections.abc import Callable

from garrison._standard import managers
from garrison._typing import Any
from garrison.store import _backend
from garrison.store._transaction import atomic
from garrison.store.containers._base import Face, Shown
from garrison.store.containers._list import update_at

__all__ = ["Value"]

WHOLE = frozenset("bBhHiIlLqQ")
"""Typecodes of whole numbers."""


class Value(Face, managers.ValueProxy):
    """One value in shared memory; as `multiprocessing.managers.Value` it can be any object.

    Parameters
    ----------
    store
        The engine.
    c : int
        The container's number.
    """

    __slots__ = ("_code",)
    _KIND = _backend.VALUE
    _PROXY = "ValueProxy"
    _TYPEID = "Value"
    _CYCLE = "Value(...)"
    _code: str

    def get(self) -> Any:
        """Return the value."""
        return self._store.list_get(self._c, 0)

    def set(self, value: Any) -> None:
        """Replace the value."""
        self._store.list_set(self._c, 0, value)

    @property
    def value(self) -> Any:
        """The value. ``v.value += 1`` is two steps: use `add`."""
        return self._store.list_get(self._c, 0)

    @value.setter
    def value(self, value: Any) -> None:
        self._store.list_set(self._c, 0, value)

    @property
    def typecode(self) -> str:
        """The typecode that the value was made with. It is shown, and not enforced."""
        try:
            return self._code
        except AttributeError:
            self._code = self._store.head(self._c)[5].decode()
            return self._code

    def add(self, amount: Any = 1) -> Any:
        """Add to a number, and return what it was before.

        Raises
        ------
        TypeError
            If one of the two is neither `int` nor `float`.
        """
        if type(amount) is int and self.typecode in WHOLE:
            new = self._store.list_add(self._c, 0, amount)
            return new - amount
        with atomic(self._store):
            before = self.get()
            self._store.list_add(self._c, 0, amount)
        return before

    def exchange(self, value: Any) -> Any:
        """Replace the value, and return what it was before."""
        with atomic(self._store):
            before = self.get()
            self.set(value)
        return before

    def compare_exchange(self, expected: Any, desired: Any) -> bool:
        """Replace the value if it is equal to `expected`; return whether it was."""
        with atomic(self._store):
            if self.get() != expected:
                return False
            self.set(desired)
        return True

    def update_with(self, fn: Callable[[Any], Any]) -> Any:
        """Replace the value by what `fn` makes of it, and return that, as one step.

        Others that write wait meanwhile, so `fn` should be short. Across a network it is called
        again if somebody else came first.
        """
        return update_at(self, 0, fn)

    def _getvalue(self) -> managers.Value:
        (value,) = self._store.snapshot(self._c)
        return managers.Value(self.typecode, value)

    def _parts(self, shown: Shown) -> str:
        return f"Value({self.typecode!r}, {shown.entries(self)})"
