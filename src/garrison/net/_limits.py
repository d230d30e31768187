"""How much a server takes from its peers, and how long it waits for them."""

from __future__ import annotations

import dataclasses

__all__ = ["Limits"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one server; the defaults suit one machine of today."""

    max_frame: int = 256 << 20
    """Bytes of one frame."""
    max_message: int = 4 << 30
    """Bytes of one message, however many frames it has, and of all that have come in part."""
    connections: int = 65_536
    """Connections at the same time; the number of descriptors is another limit."""
    strangers: int = 512
    """Connections that have not proved that they know the key; the oldest makes room."""
    seconds_to_authenticate: float = 10.0
    quiet: float = 10.0
    """Seconds of silence after which the kernel asks whether a peer's machine is still there."""
    dead: float = 30.0
    """Seconds without an answer to that, or to anything else, after which it is not."""
    output: int = 4 << 20
    """Bytes that wait to be sent to one peer before no more is read from it."""
    output_most: int = 256 << 20
    """Bytes that wait for one peer, besides one large reply, beyond which it is dropped."""
    stall: float = 60.0
    """Seconds for which a peer, owed more than `output`, may take nothing of it."""
    frames_in_turn: int = 256
    """Requests of one peer that are served before it is another's turn."""
    idle_transaction: float = 10.0
    """Seconds for which a client's transaction may do nothing: everybody's changes wait for it."""
    away: float = 60.0
    """Seconds for which what a client held, or had sent, is kept after it is gone."""
