"""The operations of a pipeline on a store: many in one round trip, some at a time as one step."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._store_operations import OPERATIONS as TABLE
from garrison.manager._store_operations import Result
from garrison.manager.client._pipeline import PipelinedResult
from garrison.manager.valkey._errors import ServerRefused
from garrison.manager.valkey._operations import OPERATIONS
from garrison.manager.valkey._refusals import Emptied, Held, Inexact, refusal_error
from garrison.manager.valkey._scripts import SCRIPTS

if TYPE_CHECKING:
    from garrison.manager.valkey._backend import ValkeyBackend

__all__ = ["Batch"]

SEND_AT = 128
"""Operations that are one step: the server does nothing else meanwhile."""
LARGE = 1 << 12
"""Entries of one operation that is not collected: it would be several scripts."""


class _Pending:
    """An operation that is to be sent."""

    __slots__ = ("args", "operation", "request", "result")

    def __init__(self, operation: str, args: tuple[Any, ...], request: Any) -> None:
        self.operation, self.args = operation, args
        self.request = request
        self.result: PipelinedResult[Any] = PipelinedResult()


class Batch:
    """Operations on one store, sent at the end."""

    def __init__(self, backend: ValkeyBackend) -> None:
        self._backend = backend
        self._pending: list[_Pending] = []
        self._failed: BaseException | None = None
        self._fence = ""

    def add(self, name: str, args: tuple[Any, ...]) -> PipelinedResult[Any]:
        """Collect an operation, and return its future result."""
        backend = self._backend
        if backend.fence != self._fence:  # what was collected belongs to before, or to another one
            self._send_all()
            self._fence = backend.fence
        if any(isinstance(each, (list, dict)) and len(each) > LARGE for each in args):
            return self._at_once(name, args)
        pending = _Pending(name, args, OPERATIONS[name](backend.values, *args))
        self._pending.append(pending)
        if len(self._pending) >= SEND_AT:
            self._send_all()
        return pending.result

    def _at_once(self, name: str, args: tuple[Any, ...]) -> PipelinedResult[Any]:
        self._send_all()
        pending = _Pending(name, args, None)
        self._run_alone(pending)
        return pending.result

    def finish(self) -> None:
        """Send the rest; raise the first failure of an operation without a result."""
        self._send_all()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _send_all(self) -> None:
        pending, self._pending = self._pending, []
        backend = self._backend
        if pending and backend.releases and not backend.fence:
            backend.flush_releases()
        while pending:
            held, waits = None, []
            for each, reply in zip(pending, self._replies(pending), strict=True):
                found = self._settle(each, reply)
                if found is not None:
                    held = found
                    waits.append(each)
            pending = waits
            if held is not None:
                backend.wait_for_end(held)

    def _replies(self, pending: list[_Pending]) -> list[Any]:
        backend = self._backend
        commands = []
        for each in pending:
            name, args = each.request[:2]
            # The full one: a quick one may refuse, and would be repeated behind later operations.
            commands.append((SCRIPTS[name].full, *backend.addressed(name, args)))
        replies: list[Any] = backend._link.pipeline(commands, one_step=True)
        return replies

    def _settle(self, pending: _Pending, reply: Any) -> Held | None:
        """Keep the result of an operation, or its failure; return what it has to wait for."""
        _, args, decode, key = pending.request
        if isinstance(reply, ServerRefused):
            reply = refusal_error(self._backend.values, reply, args, key)
        if isinstance(reply, Held):
            return reply
        if isinstance(reply, (Emptied, Inexact)):
            self._run_alone(pending)
        elif isinstance(reply, Exception):
            self._fail(pending, reply)
        else:
            try:
                pending.result._value = decode(reply)
            except Exception as error:
                self._fail(pending, error)
        return None

    def _run_alone(self, pending: _Pending) -> None:
        try:
            method = getattr(self._backend, pending.operation)
            pending.result._value = method(*pending.args)
        except Exception as error:
            self._fail(pending, error)

    def _fail(self, pending: _Pending, error: Exception) -> None:
        pending.result._error = error
        described = TABLE.get(pending.operation)
        if described is not None and described.result is Result.NONE:
            self._failed = self._failed or error
