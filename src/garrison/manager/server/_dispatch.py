"""Dispatches the requests of sessions, and serves the objects of registered types.

The loop's thread never waits: methods run in threads of `CallThreads`, whose outcomes return to the
loop.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from dataclasses import dataclass, field

from garrison import _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._remote_errors import (
    CREATE_FAILED,
    FORBIDDEN,
    REMOTE,
    Outcome,
    encode_exception,
    is_failure,
)
from garrison.manager._types import ObjectRef
from garrison.manager.server._call_threads import CallThreads, ThreadBudget, TooManyThreads
from garrison.manager.server._object_table import NotExposed, ObjectGone, ObjectTable
from garrison.manager.server._shm_calls import start_call_thread, stop_call_threads
from garrison.net import Access, Verb, public_name

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from garrison.manager._serializers import Serializer
    from garrison.net import EventLoop, Session

__all__ = ["ClientSession", "Dispatcher", "RequestService", "refuse_nan"]

_STORE, _FULL = Verb.STORE, Access.FULL  # a global is found faster than a member

_NEEDS: dict[int, Access] = {
    Verb.HELLO: Access.READ,
    Verb.SHUTDOWN: Access.OWNER,
}
"""What a client's key must allow; all else: to change things."""

NAME_LENGTH = 16
GRACE = 1.0
"""Seconds that an object lives without a proxy: a forked child needs time to take its reference."""


def refuse_nan(args: list[Any]) -> None:
    """Raise if an argument, a time, is no number: it would do half of the request."""
    if any(type(arg) is float and arg != arg for arg in args):  # noqa: PLR0124 - not a number
        raise ValueError("a time is a number of seconds, not NaN")


@dataclass
class ClientSession:
    """One session, and its client."""

    session: Session
    name: bytes = b""
    pid: int = 0
    host: str = ""
    alive: bool = True
    access: Access = Access.READ
    state: dict[Any, Any] = field(default_factory=dict)


class RequestService:
    """Handles some verbs, and the end of sessions."""

    verbs: dict[int, Callable[[ClientSession, int, list[Any]], None]]
    wants_batches = False
    """Whether it handles requests that arrived together as a batch."""

    def batch_begin(self, peer: ClientSession) -> None:
        """Begin a batch of requests."""

    def flush(self, peer: ClientSession) -> None:
        """Carry out the requests of the batch, before another service's request."""

    def batch_end(self, peer: ClientSession) -> None:
        """End the batch: carry out its last requests."""

    def closed(self, peer: ClientSession) -> None:
        """Release the resources of an ended session."""

    def cancelled(self, peer: ClientSession, rid: int) -> None:
        """The client has cancelled a request; a reply that was sent already was not read."""

    def stopping(self) -> None:
        """Answer requests that wait for other clients: the server stops."""

    def ended(self) -> None:
        """The server has ended."""


class Dispatcher:
    """Passes each request to the service of its verb."""

    def __init__(self) -> None:
        self._parts: list[RequestService] = []
        self._verbs: dict[int, Any] = {Verb.HELLO: self._hello}
        self.allows_pickle: bool = False
        """Whether the server keeps, and answers with, what has to be unpickled."""
        self._batching = RequestService()
        self.peers: dict[bytes, ClientSession] = {}

    def add(self, part: RequestService) -> None:
        """Add a service."""
        self._parts.append(part)
        self._verbs.update(part.verbs)
        if part.wants_batches:
            self._batching = part

    def opened(self, session: Session) -> None:
        """Add a session that has proved the key."""
        session.data = ClientSession(session, access=session.key.access)

    def request(self, session: Session, rid: int, verb: int, args: list[Any]) -> None:
        """Carry out a request, or begin to."""
        peer = session.data
        do = self._verbs.get(verb)
        if verb != _STORE:  # whose service looks at the access, and whose operations have no times
            self._batching.flush(peer)
            if peer.access < _NEEDS.get(verb, _FULL) and do is not None:
                key = f"the key {session.key.name!r} of this client"
                session.fail(rid, FORBIDDEN, f"{key} does not allow {Verb(verb).name}")
                return
        if do is None:
            session.fail(rid, REMOTE, f"this server does not know the request {verb}")
            return
        try:
            if verb != _STORE:
                refuse_nan(args)
            do(peer, rid, args)
        except (TypeError, ValueError, LookupError, AttributeError, TooManyThreads) as error:
            session.log.warning("a request of %s was refused: %s", session.peer, error)
            session.fail(rid, REMOTE, f"{type(error).__name__}: {error}")
        except Exception:
            session.log.failure("a request of %s has failed", session.peer)
            session.fail(rid, REMOTE, traceback.format_exc())

    def closed(self, session: Session) -> None:
        """A session has ended."""
        peer = session.data
        peer.alive = False
        name: bytes = peer.name
        if self.peers.get(name) is peer:
            del self.peers[name]
        for part in self._parts:
            part.closed(peer)

    def cancelled(self, session: Session, rid: int) -> None:
        """The client has cancelled a request."""
        for part in self._parts:
            part.cancelled(session.data, rid)

    def stopping(self) -> None:
        """Answer requests that wait for other clients."""
        for part in self._parts:
            part.stopping()

    def ended(self) -> None:
        """End all services."""
        for part in self._parts:
            part.ended()

    def batch_begin(self, session: Session) -> None:
        """Begin a batch of requests."""
        self._batching.batch_begin(session.data)

    def batch_end(self, session: Session) -> None:
        """End the batch."""
        self._batching.batch_end(session.data)

    def _hello(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        name, pid, host = args
        if len(name) != NAME_LENGTH or peer.name not in {b"", bytes(name)}:
            raise ValueError(f"a client has one name, of {NAME_LENGTH} bytes")
        peer.name, peer.pid, peer.host = bytes(name), int(pid), str(host)
        before = self.peers.get(peer.name)
        self.peers[peer.name] = peer
        if before is not None and before is not peer:
            # It has reconnected before the end of its old connection was noticed.
            before.session.drop("its client has reconnected")
        peer.session.reply(rid, os.getpid(), _os.boot_id(), self.allows_pickle)


class ObjectService(RequestService):
    """Objects of registered types."""

    def __init__(
        self, loop: EventLoop, service: Dispatcher, objects: ObjectTable, chosen: Serializer
    ) -> None:
        self.objects = objects
        self._service = service
        self.budget = ThreadBudget(loop.limits)
        self.callers = CallThreads(self.budget)
        self._loop = loop
        self._serializer = chosen
        self._unreferenced: set[str] = set()
        self._batching = False
        self.verbs = {
            Verb.CREATE: self._create,
            Verb.CALL: self._call,
            Verb.ACQUIRE_REF: self._hold,
            Verb.RELEASE_REFS: self._drop,
            Verb.BEGIN_TRANSFER: self._send,
            Verb.CONFIRM_TRANSFER: self._received,
            Verb.METHODS: self._methods,
            Verb.COUNT: self._count,
            Verb.DEBUG: self._debug,
            Verb.OPEN_SHM_CALLS: self._ring,
            Verb.SHUTDOWN: self._shutdown,
        }

    # -- making and calling -----------------------------------------------------------------------

    def _create(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        typeid, payload, thread = args
        self._run(peer, rid, thread, lambda: self._create_in_thread(peer, typeid, payload))

    def _create_in_thread(self, peer: ClientSession, typeid: str, payload: bytes) -> Outcome:
        try:
            args, kwds = self._serializer.loads(payload)
            made = self.objects.create(peer.name, typeid, args, kwds)
        except BaseException as error:
            # As in the standard library: only exceptions of methods are sent as they are.
            _, text, data = encode_exception(error, self._serializer)
            return CREATE_FAILED, text, data
        return (made.ident, list(made.exposed))

    def _call(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        ident, method, payload, thread = args
        self._run(peer, rid, thread, lambda: self.perform(peer.name, ident, method, payload))

    def perform(self, holder: Hashable, ident: str, method: str, payload: bytes) -> Outcome:
        """Call a method; return the fields of the reply, or those of the failure."""
        try:
            args, kwds = self._serializer.loads(payload) if payload else ((), {})
            result = self.objects.call(holder, ident, method, args, kwds)
        except (NotExposed, ObjectGone):
            return REMOTE, traceback.format_exc(), b""
        except BaseException as error:
            return encode_exception(error, self._serializer)
        return self._encode_result(result)

    def _encode_result(self, result: Any) -> Outcome:
        if isinstance(result, ObjectRef):
            return (
                1,
                result.typeid,
                result.ident,
                list(result.exposed),
                self._proxytype_bytes(result.typeid),
            )
        try:
            return 0, self._serializer.dumps(result)
        except Exception:
            return REMOTE, f"Unserializable message: {traceback.format_exc()}", b""

    def _proxytype_bytes(self, typeid: str) -> bytes:
        """Pickle the proxy type of a type, for a process that has no manager."""
        with contextlib.suppress(Exception):
            return self._serializer.dumps(self.objects.proxytype(typeid))
        return b""

    def _run(self, peer: ClientSession, rid: int, thread: int, work: Callable[[], Outcome]) -> None:
        if not rid:
            raise ValueError("a call without a number, of which any number could wait")

        def job() -> None:
            outcome = work()
            self._loop.call_soon_threadsafe(self._deliver, peer, rid, outcome)

        self.callers.run(peer.session, thread, job)

    @staticmethod
    def _deliver(peer: ClientSession, rid: int, outcome: Outcome) -> None:
        if not peer.alive:
            return
        if is_failure(outcome):
            peer.session.fail(rid, *outcome)
        else:
            peer.session.reply(rid, *outcome)

    # -- holding ----------------------------------------------------------------------------------

    def _hold(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        self.objects.acquire_ref(peer.name, args[0])
        peer.session.reply(rid)

    def _drop(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        for ident in args[0]:
            self.objects.release_ref(peer.name, ident)
        peer.session.reply(rid)
        self._collect_soon()

    def _send(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        self.objects.acquire_ref((public_name(peer.name), "sent"), args[0])
        peer.session.reply(rid)

    def _received(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        ident, sender = args
        self.objects.acquire_ref(peer.name, ident)
        self.objects.release_ref((sender, "sent"), ident)
        peer.session.reply(rid)

    def closed(self, peer: ClientSession) -> None:
        """Release the references of a client, unless it reconnects."""
        stop_call_threads(peer)
        self.callers.end(peer.session)
        away = self._loop.limits.reconnect_grace_s
        self._loop.call_later(
            GRACE if peer.session.local else away, self._release, peer.name, peer.name
        )
        self._loop.call_later(away, self._release, peer.name, (public_name(peer.name), "sent"))

    def _release(self, name: bytes, holder: Hashable) -> None:
        if name not in self._service.peers:
            self.objects.release_all(holder)
            self._collect_soon()

    def _collect_soon(self) -> None:
        if not self._batching:
            self._batching = True
            self._unreferenced = self.objects.unreferenced()
            self._loop.call_later(GRACE, self._collect)

    def _collect(self) -> None:
        """Drop the objects that had no reference for a while."""
        self._batching = False
        self.objects.remove_unreferenced(self._unreferenced)
        if self.objects.unreferenced():
            self._collect_soon()

    # -- looking ----------------------------------------------------------------------------------

    def _methods(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        peer.session.reply(rid, sorted(self.objects.find(args[0]).exposed))

    def _count(self, peer: ClientSession, rid: int, _args: list[Any]) -> None:
        peer.session.reply(rid, len(self.objects))

    def _debug(self, peer: ClientSession, rid: int, _args: list[Any]) -> None:
        peer.session.reply(rid, self.objects.debug_info())

    def _ring(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        payload, thread = args
        start_call_thread(self, peer, self._serializer.loads(payload), thread)
        peer.session.reply(rid)

    def _shutdown(self, peer: ClientSession, rid: int, _args: list[Any]) -> None:
        peer.session.reply(rid)
        self._loop.stop(0.0, for_good=True)
