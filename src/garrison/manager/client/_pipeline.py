"""Many operations in one round trip.

In a pipeline an operation returns a `PipelinedResult` at once; it has its value once the pipeline
was sent. An operation whose result is needed at once sends the collected ones, and waits.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._store_operations import OPERATIONS
from garrison.manager.client._operation_codec import MISSING
from garrison.net import RemoteFailure, Verb

if TYPE_CHECKING:
    from garrison.manager.client._operation_codec import OperationCodec
    from garrison.manager.client._remote_backend import RemoteBackend

__all__ = ["OperationBatch", "Pipeline", "PipelinedResult"]

T = TypeVar("T")
_PENDING: Any = object()
FLUSH_EVERY = 64
"""Operations of a pipeline that are sent at once, while more are collected."""


class PipelinedResult(Generic[T]):
    """A result that is available once the pipeline was sent."""

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
    """Collects operations: call it with a container to get one that does not wait.

    An operation without a result that fails raises at the end of the block. One with a result
    raises where its `value` is asked for.
    """

    def __init__(self) -> None:
        self._batches: dict[int, Any] = {}

    def __call__(self, container: Any) -> Any:
        """Return a container whose operations are collected."""
        backend = container._backend
        batch = self._batches.get(id(backend))
        if batch is None:
            make = getattr(backend, "batch", None)
            batch = self._batches[id(backend)] = make() if make else _ImmediateBatch(backend)
        return type(container)(_PipelinedBackend(self, backend, batch), container._container_id)

    def send(self) -> None:
        """Send the collected operations, and wait for the results."""
        for batch in self._batches.values():
            batch.finish()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.send()


class OperationBatch:
    """Operations on one remote store: sent as they come, answered at the end."""

    def __init__(self, backend: RemoteBackend) -> None:
        self._backend = backend
        self._codecs = backend.codecs
        self._pending: list[tuple[PipelinedResult[Any], Any, OperationCodec, Any]] = []
        self._requests: Any = None

    def add(self, name: str, args: tuple[Any, ...]) -> PipelinedResult[Any]:
        """Send an operation together with others, and return its future result."""
        default = MISSING
        if name == "dict_get_or":
            name, args, default = "dict_get", args[:2], args[2]
        codec = self._codecs[name]
        fields = codec.encode(args)
        if self._requests is None or self._sent_in is not self._backend.transaction_connection:
            self._choose_connection()
        request = self._requests.ask(
            Verb.STORE, name, *fields, idempotent=self._again or codec.idempotent
        )
        result: PipelinedResult[Any] = PipelinedResult()
        key = args[1] if codec.has_key else MISSING
        self._pending.append((result, request, codec, (key, default)))
        if not len(self._pending) % FLUSH_EVERY:
            self._requests.flush()
        return result

    def _choose_connection(self) -> None:
        """Send on this thread's connection from now on: a transaction has its own."""
        if self._requests is not None:
            self._requests.flush()
        connection, self._again, check = self._backend.route()
        self._sent_in = self._backend.transaction_connection
        self._requests = connection.batch(check)

    def finish(self) -> None:
        """Wait for all answers; raise the first failure of an operation without a result."""
        pending, requests = self._pending, self._requests
        self._pending, self._requests = [], None
        if requests is None:
            return
        requests.flush()
        failed = None
        for result, request, codec, about in pending:
            try:
                (answer,) = request.get()
            except Exception as error:
                self._fail(result, error, *about)
                if not codec.has_result:
                    failed = failed or result._error
            else:
                result._value = codec.decode(answer)
        if failed is not None:
            raise failed

    def _fail(self, result: PipelinedResult[Any], error: Exception, key: Any, default: Any) -> None:
        if isinstance(error, RemoteFailure):
            error = self._backend.error(error, key)
        if isinstance(error, KeyError) and default is not MISSING:
            result._value = default
        else:
            result._error = error


class _ImmediateBatch:
    """Runs each operation when it is added: a local store has no round trips to save."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def add(self, name: str, args: tuple[Any, ...]) -> PipelinedResult[Any]:
        """Run an operation, and return its result."""
        result: PipelinedResult[Any] = PipelinedResult()
        try:
            result._value = getattr(self._backend, name)(*args)
        except Exception as error:
            result._error = error
        return result

    def finish(self) -> None:
        """Return: everything is done."""


class _PipelinedBackend:
    """Stands for a backend in a pipeline."""

    def __init__(self, pipeline: Pipeline, backend: Any, batch: Any) -> None:
        self._pipeline = pipeline
        self._backend = backend
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        # `dict_get_or` is not in the table: the client puts the default in.
        operation = OPERATIONS.get("dict_get" if name == "dict_get_or" else name)
        found = getattr(self._backend, name)
        if operation is None or not callable(found):
            return found
        if operation.pipelined:
            add = self._batch.add
            collect: Any = lambda *args: add(name, args)  # noqa: E731
        else:

            def collect(*args: Any) -> Any:
                self._pipeline.send()
                return found(*args)

        setattr(self, name, collect)  # looked up once for each name
        return collect
