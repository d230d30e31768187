"""The requests that a client may send, by number, and the kinds of failure of a lock request."""

from __future__ import annotations

import hashlib
from enum import IntEnum

__all__ = ["LEASE_EXPIRED", "NOT_OWNER", "UNKNOWN", "WRONG_KIND", "Verb", "public_name"]


def public_name(name: bytes) -> bytes:
    """Return what pickles say of the client that has sent them.

    The name itself is secret: it is all that a client reconnects and releases references with.
    """
    return hashlib.blake2b(name, digest_size=16, person=b"garrison client").digest()


class Verb(IntEnum):
    """A request: the arguments that it takes, and the fields of its reply."""

    HELLO = 1
    """(name of the client: 16 bytes, pid, boot id) -> (pid of the server, boot id)"""
    SHUTDOWN = 2
    """() -> (): stop the server."""

    # Objects of registered types. Payloads are pickled by the manager's serializer.
    CREATE = 10
    """(typeid, payload of (args, kwds), thread) -> (ident, exposed)"""
    CALL = 11
    """(ident, method, payload of (args, kwds) or empty, thread) -> (0, payload) or (1, typeid,
    ident, exposed, payload of the proxy type or empty)"""
    ACQUIRE_REF = 12
    """(ident) -> ()"""
    RELEASE_REFS = 13
    """(idents) -> ()"""
    BEGIN_TRANSFER = 14
    """(ident) -> (): keep the object until its receiver sends CONFIRM_TRANSFER."""
    CONFIRM_TRANSFER = 15
    """(ident, `public_name` of the sender) -> (): acquire a reference, and end the transfer."""
    METHODS = 16
    """(ident) -> (exposed)"""
    COUNT = 17
    """() -> (number of objects)"""
    DEBUG = 18
    """() -> (text)"""
    OPEN_SHM_CALLS = 19
    """(payload of a pair of queues, thread) -> (): serve calls through the queues."""

    # Containers and locks.
    STORE = 30
    """(operation, arguments...) -> the operation's result"""
    LEASE = 40
    """(operation, arguments...) -> the operation's result"""


# Why a request of a lock failed.
NOT_OWNER = "not owner"
LEASE_EXPIRED = "lease expired"
WRONG_KIND = "wrong kind"
UNKNOWN = "unknown"
"""There is no lock of that name; the request had no effect."""
