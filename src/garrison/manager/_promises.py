"""Many operations in one round trip.

In a pipeline a face does not wait: what an operation gives is a promise, kept when the pipeline is
sent. An operation whose result is needed at once sends what was collected, and waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from garrison.manager._operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pipeline", "Promise"]

T = TypeVar("T")
_PENDING: Any = object()


class Promise(Generic[T]):
    """A result that comes when the pipeline is sent."""

    __slots__ = ("_error", "_value")

    def __init__(self) -> None:
        self._value: Any = _PENDING
        self._error: BaseException | None = None

    def keep(self, work: Callable[[], Any]) -> None:
        """Have the result, or the exception, of some work."""
        try:
            self._value = work()
        except Exception as error:
            self._error = error

    @property
    def value(self) -> T:
        """The result.

        Raises
        ------
        RuntimeError
            If the pipeline has not been sent yet.
        Exception
            What the operation raised.
        """
        if self._error is not None:
            raise self._error
        if self._value is _PENDING:
            raise RuntimeError("the pipeline is sent at the end of its block; ask after that")
        return self._value  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        msg = "a result in a pipeline is a promise; ask for its .value after the block"
        raise TypeError(msg)

    def __repr__(self) -> str:
        if self._error is not None:
            return f"<Promise broken: {self._error!r}>"
        return "<Promise>" if self._value is _PENDING else f"<Promise of {self._value!r}>"


class Pipeline:
    """Collects operations: call it with a container to get a face that does not wait."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Promise[Any], Any, Callable[..., Any], tuple[Any, ...]]] = []

    def __call__(self, container: Any) -> Any:
        """Return a face of a container whose operations are collected."""
        return type(container)(_Collector(self, container._store), container._c)

    def add(self, engine: Any, name: str, args: tuple[Any, ...]) -> Promise[Any]:
        """Collect an operation."""
        promise: Promise[Any] = Promise()
        self._waiting.append((promise, engine, name, args))  # type: ignore[arg-type]
        return promise

    def send(self) -> None:
        """Send what was collected, and keep the promises."""
        waiting, self._waiting = self._waiting, []
        begun = [(promise, _begin(engine, name, args)) for promise, engine, name, args in waiting]
        flushed = {id(engine): engine for _, engine, _, _ in waiting}
        for engine in flushed.values():
            if hasattr(engine, "flush"):
                engine.flush()
        for promise, work in begun:
            promise.keep(work)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.send()


def _begin(engine: Any, name: Any, args: tuple[Any, ...]) -> Callable[[], Any]:
    later = getattr(engine, "begin_operation", None)
    if later is not None:
        return later(name, args)  # type: ignore[no-any-return]
    return lambda: getattr(engine, name)(*args)


class _Collector:
    """Stands for an engine in a pipeline."""

    def __init__(self, pipeline: Pipeline, engine: Any) -> None:
        self._pipeline = pipeline
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        # Not in the table: the default stays here.
        operation = OPERATIONS.get("dict_get" if name == "dict_get_or" else name)
        if operation is not None and operation.promised:
            return lambda *args: self._pipeline.add(self._engine, name, args)
        found = getattr(self._engine, name)
        if operation is None or not callable(found):
            return found

        def at_once(*args: Any) -> Any:
            self._pipeline.send()
            return found(*args)

        return at_once
