"""`Counter`: counts that processes share."""

from __future__ import annotations

import collections
import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from garrison._typing import Any, ClassVar, NoReturn
from garrison.store._backend import Kind
from garrison.store._transaction import single_step, transaction
from garrison.store.containers._base import ContainerRepr
from garrison.store.containers._dict import Dict

__all__ = ["Counter"]

Plain = collections.Counter[Any]


K = TypeVar("K")


class Counter(Dict[K, int]):
    """A `collections.Counter` that processes share: ``manager.Counter()``.

    Every method is one atomic step. ``c[key] += 1`` is two: use ``c.add(key)``.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     words = manager.Counter("to be or not to be".split())
    ...     words.add("be")
    ...     print(words.most_common(2))
    3
    [('be', 3), ('to', 2)]
    """

    __slots__ = ()
    __module__ = "garrison.store"
    _kind = Kind.COUNTER.value
    _proxy_name = "AutoProxy[Counter]"
    _typeid = "Counter"
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __getitem__(self, key: Any) -> Any:
        return self._backend.dict_get_or(self._container_id, key, 0)

    def __delitem__(self, key: Any) -> None:
        with contextlib.suppress(KeyError):
            self._backend.dict_delete(self._container_id, key)

    def add(self, key: Any, delta: Any = 1, initial: Any = 0) -> Any:
        """Add to a count, and return the new one; a missing key has `initial`."""
        return self._backend.dict_add(self._container_id, key, delta, initial)

    # --- All of them --------------------------------------------------------------------------

    def update(self, other: Any = None, /, **kwargs: Any) -> None:
        """Add the counts of a mapping, or one for each element of an iterable, all at once."""
        self._count(_counted(other, kwargs), operator.add)

    def subtract(self, other: Any = None, /, **kwargs: Any) -> None:
        """Subtract the counts of a mapping, or one for each element of an iterable, all at once."""
        self._count(_counted(other, kwargs), operator.sub)

    def _count(self, counts: Plain, join: Callable[[Any, Any], Any]) -> None:
        backend, c = self._backend, self._container_id
        with single_step(backend):
            pairs = []
            for key, count in counts.items():
                found = backend.dict_get_or(c, key, None)
                is_new = found is None and join is operator.add  # then of any type, as in a Counter
                pairs.append((key, count if is_new else join(found or 0, count)))
            backend.dict_update(c, pairs)

    def most_common(self, n: int | None = None) -> list[tuple[Any, Any]]:
        """Return the `n` keys with the highest counts, or all, with these."""
        return self._plain().most_common(n)

    def elements(self) -> Iterator[Any]:
        """Iterate over the keys, each as often as its count says."""
        return self._plain().elements()

    def total(self) -> Any:
        """Return the sum of the counts."""
        return sum(self.values())

    @staticmethod
    def fromkeys(iterable: Iterable[Any], value: Any = None, /) -> NoReturn:
        """Raise: a counter counts, use ``update``."""
        msg = "Counter.fromkeys() is undefined.  Use Counter(iterable) instead."
        raise NotImplementedError(msg)

    def copy(self) -> Plain:
        """Return a plain `collections.Counter`."""
        return self._plain()

    def _plain(self) -> Plain:
        return collections.Counter(super()._plain())

    def _getvalue(self) -> Plain:
        return collections.Counter(self._backend.snapshot(self._container_id))

    # --- Operators: what they return is plain -------------------------------------------------

    def __add__(self, other: Any) -> Plain:
        return self._plain() + _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def __sub__(self, other: Any) -> Plain:
        return self._plain() - _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def __or__(self, other: Any) -> Plain:
        return self._plain() | _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def __and__(self, other: Any) -> Plain:
        return self._plain() & _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def __radd__(self, other: Any) -> Plain:
        return _plain(other) + self._plain() if isinstance(other, PLAIN) else NotImplemented

    def __rsub__(self, other: Any) -> Plain:
        return _plain(other) - self._plain() if isinstance(other, PLAIN) else NotImplemented

    def __ror__(self, other: Any) -> Plain:
        return _plain(other) | self._plain() if isinstance(other, PLAIN) else NotImplemented

    def __rand__(self, other: Any) -> Plain:
        return _plain(other) & self._plain() if isinstance(other, PLAIN) else NotImplemented

    def __pos__(self) -> Plain:
        return +self._plain()

    def __neg__(self) -> Plain:
        return -self._plain()

    def __iadd__(self, other: Any) -> Any:
        return self._become(lambda mine, theirs: mine + theirs, other)

    def __isub__(self, other: Any) -> Any:
        return self._become(lambda mine, theirs: mine - theirs, other)

    def __ior__(self, other: Any) -> Any:
        return self._become(lambda mine, theirs: mine | theirs, other)

    def __iand__(self, other: Any) -> Any:
        return self._become(lambda mine, theirs: mine & theirs, other)

    def _become(self, operation: Callable[[Plain, Plain], Plain], other: Any) -> Any:
        if not isinstance(other, PLAIN):
            return NotImplemented
        theirs = _plain(other)
        backend, c = self._backend, self._container_id
        with transaction(backend):
            mine = self._plain()
            new = operation(mine, theirs)
            for key in mine.keys() - new.keys():
                backend.dict_delete(c, key)
            backend.dict_update(c, [item for item in new.items() if mine.get(item[0]) != item[1]])
        return self

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PLAIN):
            return self._same_container(other) or self._plain() == _plain(other)
        return super().__eq__(other)

    def __lt__(self, other: Any) -> bool:
        return self._plain() < _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return self._plain() <= _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return self._plain() > _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return self._plain() >= _plain(other) if isinstance(other, PLAIN) else NotImplemented

    def _repr_items(self, shown: ContainerRepr) -> str:
        return f"Counter({{{shown.entries(self, 'items')}}})"

    def __repr__(self) -> str:
        return str(self)


PLAIN = (collections.Counter, Counter)


def _plain(other: Any) -> Plain:
    return other._plain() if isinstance(other, Counter) else other


def _counted(other: Any, more: Mapping[str, Any]) -> Plain:
    """Return what there is to count: the counts of a mapping, or one for each element."""
    if isinstance(other, Dict):
        other = dict(other.items())
    counts: Plain = collections.Counter(other)
    counts.update(more)
    return counts
