"""Connections between processes: addresses, keys, sessions. Knows no store, lock or object."""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison.net._address import format_address
    from garrison.net._connection import Connection
    from garrison.net._event_loop import EventLoop, Timer
    from garrison.net._identity import Identity, kept_identity, new_identity
    from garrison.net._key import Key, generate_key
    from garrison.net._key_watch import watch_keys
    from garrison.net._known_servers import check_fingerprint
    from garrison.net._limits import Limits
    from garrison.net._listener import Listener
    from garrison.net._protocol import (
        LEASE_EXPIRED,
        NOT_OWNER,
        UNKNOWN,
        WRONG_KIND,
        Verb,
        public_name,
    )
    from garrison.net._rate_limited_log import server_log
    from garrison.net._request_batch import RemoteFailure
    from garrison.net._server_keys import Access, NamedKey, ServerKeys, parse_named_key
    from garrison.net._session import Session

__all__ = [
    "LEASE_EXPIRED",
    "NOT_OWNER",
    "UNKNOWN",
    "WRONG_KIND",
    "Access",
    "Connection",
    "EventLoop",
    "Identity",
    "Key",
    "Limits",
    "Listener",
    "NamedKey",
    "RemoteFailure",
    "ServerKeys",
    "Session",
    "Timer",
    "Verb",
    "check_fingerprint",
    "format_address",
    "generate_key",
    "kept_identity",
    "new_identity",
    "parse_named_key",
    "public_name",
    "server_log",
    "watch_keys",
]

_HOMES = {
    "_address": ("format_address",),
    "_connection": ("Connection",),
    "_event_loop": ("EventLoop", "Timer"),
    "_identity": ("Identity", "kept_identity", "new_identity"),
    "_key": ("Key", "generate_key"),
    "_key_watch": ("watch_keys",),
    "_known_servers": ("check_fingerprint",),
    "_limits": ("Limits",),
    "_listener": ("Listener",),
    "_protocol": ("LEASE_EXPIRED", "NOT_OWNER", "UNKNOWN", "WRONG_KIND", "Verb", "public_name"),
    "_rate_limited_log": ("server_log",),
    "_request_batch": ("RemoteFailure",),
    "_server_keys": ("Access", "NamedKey", "ServerKeys", "parse_named_key"),
    "_session": ("Session",),
}
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, globals(), _HOMES)
