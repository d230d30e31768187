"""Results with options that few have: `on_error` and `logs`."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._failure import failure_of
from garrison.pool._map_results import MapResult
from garrison.pool._results import AsyncResult, R

if TYPE_CHECKING:
    from garrison.pool._facts import Facts

__all__ = ["LoggedMapResult", "LoggedResult", "LoggedReturningResult", "ReturningResult"]


class ReturningResult(AsyncResult[R]):
    """A result that is a `Failure` if the call fails."""

    __slots__ = ()

    def _failed(self, error: BaseException, facts: Facts | None = None) -> tuple[bool, Any]:
        super()._failed(error, facts)
        return True, failure_of(error, facts, None)


class LoggedResult(AsyncResult[R]):
    """A result before which the output of its call is shown."""

    __slots__ = ()

    def _resolve(self) -> tuple[bool, Any]:
        try:
            return super()._resolve()
        finally:
            _drain(self._backend)


class LoggedReturningResult(LoggedResult[R], ReturningResult[R]):
    """Both."""

    __slots__ = ()


class LoggedMapResult(MapResult[R]):
    """A result before which the output of its calls is shown."""

    __slots__ = ()

    def collect_ready(self) -> bool:
        """Read the chunks that have ended, and show what they have written."""
        _drain(self._backend)  # it goes above a progress bar, which ends with the last chunk
        try:
            return super().collect_ready()
        finally:
            _drain(self._backend)

    _poll = collect_ready


def _drain(backend: Any) -> None:
    log = backend.show_output()
    if log is not None:
        log.drain()
