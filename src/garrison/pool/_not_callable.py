"""What is sent in place of a function that is none."""

from __future__ import annotations

from garrison._typing import Any

__all__ = ["NotCallable"]


class NotCallable:
    """Replaces a function that cannot be called: the error is the task's result."""

    def __init__(self, value: object) -> None:
        self._message = f"the first argument must be callable, not {value!r}"

    def __call__(self, *_args: Any, **_kwds: Any) -> Any:
        raise TypeError(self._message)
