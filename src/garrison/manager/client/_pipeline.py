"""Many operations in one round trip.

In a pipeline a face does not wait: what an operation gives is a promise, kept when the pipeline is
sent. An operation whose result is needed at once sends what was collected, and waits.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from garrison._typing import Any
from garrison.manager._store_operations import OPERATIONS

__all__ = ["AtOnce", "Pipeline", "Promise"]

T = TypeVar("T")
_PENDING: Any = object()


class Promise(Generic[T]):
    """A result that comes when the pipeline is sent."""

    __slots__ = ("_error", "_value")

    def __init__(self) -> None:
        self._value: Any = _PENDING
        self._error: BaseException | None = None

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
    """Collects operations: call it with a container to get a face that does not wait.

    An operation without a result that fails raises at the end of the block; one with a result
    raises where its promise is asked.
    """

    def __init__(self) -> None:
        self._batches: dict[int, Any] = {}

    def __call__(self, container: Any) -> Any:
        """Return a face of a container whose operations are collected."""
        engine = container._store
        batch = self._batches.get(id(engine))
        if batch is None:
            make = getattr(engine, "batch", None)
            batch = self._batches[id(engine)] = make() if make else AtOnce(engine)
        return type(container)(_Collector(self, engine, batch), container._c)

    def send(self) -> None:
        """Send what was collected, and keep the promises."""
        for batch in self._batches.values():
            batch.finish()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.send()


class AtOnce:
    """Does each operation when it is added: at home there is nothing to wait for."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def add(self, name: str, args: tuple[Any, ...]) -> Promise[Any]:
        """Do an operation, and return the promise of its result, kept."""
        promise: Promise[Any] = Promise()
        try:
            promise._value = getattr(self._engine, name)(*args)
        except Exception as error:
            promise._error = error
        return promise

    def finish(self) -> None:
        """Have done everything."""


class _Collector:
    """Stands for an engine in a pipeline."""

    def __init__(self, pipeline: Pipeline, engine: Any, batch: Any) -> None:
        self._pipeline = pipeline
        self._engine = engine
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        # Not in the table: the default stays here.
        operation = OPERATIONS.get("dict_get" if name == "dict_get_or" else name)
        found = getattr(self._engine, name)
        if operation is None or not callable(found):
            return found
        if operation.promised:
            add = self._batch.add
            collect: Any = lambda *args: add(name, args)  # noqa: E731
        else:

            def collect(*args: Any) -> Any:
                self._pipeline.send()
                return found(*args)

        setattr(self, name, collect)  # looked up once for each name
        return collect
