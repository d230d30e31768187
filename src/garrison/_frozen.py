"""Frozen records, without `dataclasses`: its import takes as long as that of all of a pool."""

from __future__ import annotations

from garrison._typing import NoReturn

__all__ = ["Frozen"]


class Frozen:
    """A record whose values are those of its ``__dict__``, and stay."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: it is frozen."""
        # Late: this is an error of the program.
        from dataclasses import FrozenInstanceError

        msg = f"cannot assign to field {name!r}"
        raise FrozenInstanceError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse: it is frozen."""
        from dataclasses import FrozenInstanceError

        msg = f"cannot delete field {name!r}"
        raise FrozenInstanceError(msg)

    def __eq__(self, other: object) -> bool:
        """Whether all values are equal."""
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        """As of the values."""
        return hash(tuple(vars(self).values()))
