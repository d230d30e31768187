"""Functions that take any bytes: a value or one of the promised errors comes of it."""

from __future__ import annotations

from multiprocessing import AuthenticationError
from typing import Any

from garrison.errors import ChannelError, ItemUnpicklable, ValueUnreadable
from garrison.net._handshake import ClientHandshake, ServerHandshake
from garrison.net._limits import Limits
from garrison.net._server_keys import ServerKeys
from garrison.store import plain_values

LIMITS = Limits(max_frame=1 << 12, max_message=1 << 14)
KEY = b"garrison-" + b"k" * 43
"""As one that was generated: what a person may have chosen is stretched, which takes long."""
STORED = 256 + 600
"""Bytes that are kept for a peer that has not proved the key."""


def plain_values_target(data: bytes) -> None:
    """Read a stored value, and write it again."""
    try:
        value = plain_values.loads(b"\x01" + data)
    except ValueUnreadable:
        return
    try:
        again = plain_values.dumps(value)
    except ItemUnpicklable:
        return  # larger than what is written
    assert same(plain_values.loads(again), value), (value, again)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same, a NaN being equal to another."""
    return (type(one) is type(other) and repr(one) == repr(other)) or one == other


def greetings_target(data: bytes) -> None:
    """Feed a client's and a server's end what is no greeting, in two pieces."""
    cut = data[0] if data else 0
    for end in (ServerHandshake(ServerKeys(KEY), LIMITS), ClientHandshake(KEY, LIMITS)):
        try:
            for piece in (data[1 : 1 + cut], data[1 + cut :]):
                end.receive(piece)
                assert len(end._buffer) <= len(piece) + STORED
        except (ChannelError, AuthenticationError):
            pass
        assert not end.established


TARGETS = {"plain_values": plain_values_target, "greetings": greetings_target}
