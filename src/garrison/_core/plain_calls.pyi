"""The most common calls of a pool."""

from collections.abc import Callable
from typing import Any

from garrison._core.parent import Parent
from garrison._core.task_handle import TaskHandle

class PlainCalls:
    """PlainCalls(parent, functions, kind, retries): the most common calls of a pool.

    `functions` has the functions that the workers know, with their numbers, by identity. `kind`
    says that a payload is a call's positional arguments.
    """

    def __init__(
        self,
        parent: Parent,
        functions: dict[int, tuple[Callable[..., Any], int]],
        kind: int,
        retries: int,
    ) -> None: ...
    def submit(self, function: Callable[..., Any], args: object) -> TaskHandle | None:
        """Submit a call of one of the functions with small plain arguments.

        None if it is none of these, or if there is no room for it just now.
        """
