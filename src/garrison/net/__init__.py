"""Connections between processes: addresses, keys, sessions. Knows no store, lock or object."""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison.net._address import format_address
    from garrison.net._connection import Connection
    from garrison.net._event_loop import EventLoop, Timer
    from garrison.net._key import Key, generate_key
    from garrison.net._limits import Limits
    from garrison.net._listener import Listener
    from garrison.net._protocol import LEASE_EXPIRED, NOT_OWNER, UNKNOWN, WRONG_KIND, Verb
    from garrison.net._request_batch import RemoteFailure
    from garrison.net._session import Session

__all__ = [
    "LEASE_EXPIRED",
    "NOT_OWNER",
    "UNKNOWN",
    "WRONG_KIND",
    "Connection",
    "EventLoop",
    "Key",
    "Limits",
    "Listener",
    "RemoteFailure",
    "Session",
    "Timer",
    "Verb",
    "format_address",
    "generate_key",
]

_HOMES = {
    "_address": ("format_address",),
    "_connection": ("Connection",),
    "_event_loop": ("EventLoop", "Timer"),
    "_key": ("Key", "generate_key"),
    "_limits": ("Limits",),
    "_listener": ("Listener",),
    "_protocol": ("LEASE_EXPIRED", "NOT_OWNER", "UNKNOWN", "WRONG_KIND", "Verb"),
    "_request_batch": ("RemoteFailure",),
    "_session": ("Session",),
}
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, globals(), _HOMES)
