"""The most common calls of a pool."""

from collections.abc import Callable
from typing import Any

from garrison._core.parent import Parent
from garrison._core.task_handle import TaskHandle

class PlainCalls:
    """PlainCalls(parent, functions, retries): the most common calls of a pool.

    `functions` has the functions that the workers know, with their numbers, by identity.
    """

    def __init__(
        self,
        parent: Parent,
        functions: dict[int, tuple[Callable[..., Any], int]],
        retries: int,
    ) -> None: ...
    def submit(
        self, function: Callable[..., Any], kind: int, args: object, items: int = 1
    ) -> TaskHandle | None:
        """Submit a task of one of the functions: a call, or so many items.

        None if the function is none of these, its arguments are not small and plain, or there is
        no room just now.
        """
