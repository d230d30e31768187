"""How much a server accepts from its peers, and how long it waits for them."""

from __future__ import annotations

from garrison._frozen import Frozen
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(**_: object) -> Any:
        """Return what returns its argument: only type checkers are shown a dataclass."""
        return lambda kind: kind


__all__ = ["Limits"]


@dataclass(frozen=True, eq=False)
class Limits(Frozen):
    """Bounds of one server; the defaults suit one machine of today."""

    max_frame: int = 256 << 20
    """Bytes of one frame."""
    max_message: int = 4 << 30
    """Bytes of one message, all its frames together, and of all messages received in part."""
    max_unfinished: int = 4 << 30
    """Bytes of all clients' messages that have arrived in part; the client with most of them is
    disconnected for more."""
    unfinished_message_s: float = 60.0
    """Seconds in which another MiB of an unfinished message, or its end, must arrive."""
    max_values: int = 1 << 18
    """Values of one request (numbers, strings, lists ...): each needs some 50 bytes of memory."""
    max_connections: int = 65_536
    """Connections at the same time; the number of descriptors is another limit."""
    max_unauthenticated: int = 512
    """Connections that have not proved the key yet; the oldest is closed for a newer one."""
    authentication_timeout_s: float = 10.0
    """Seconds in which a peer has to prove the key."""
    keepalive_idle_s: float = 10.0
    """Seconds of silence after which the kernel asks the peer's kernel for a sign of life."""
    peer_timeout_s: float = 30.0
    """Seconds without an answer after which a peer counts as gone."""
    threads_per_client: int = 1024
    """Threads of the server that run the calls of one client: one for each of its threads."""
    max_threads: int = 4096
    """Threads of the server that run calls, of all clients."""
    send_buffer_high: int = 4 << 20
    """Unsent bytes of one peer at which the server stops reading from it."""
    send_buffer_max: int = 256 << 20
    """Unsent bytes of one peer, besides one large reply, at which it is disconnected."""
    stalled_peer_s: float = 60.0
    """Seconds for which a peer with more than `send_buffer_high` unsent bytes may read nothing."""
    requests_per_turn: int = 256
    """Requests of one peer that are served before the next peer's turn."""
    max_requests: int = 65_536
    """Requests of one client without a reply yet; for more it is disconnected."""
    turn_s: float = 0.005
    """Seconds for which operations of one client are carried out before the next client's turn;
    one operation that takes longer is finished."""
    idle_transaction_s: float = 10.0
    """Seconds for which a client's transaction may be idle: it blocks all other writers."""
    max_transaction_s: float = 60.0
    """Seconds that a client's transaction may last, whatever is done in it."""
    reconnect_grace_s: float = 60.0
    """Seconds for which a disconnected client's references and transfers are kept."""

    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            fields = type(self).__annotations__
            for name in values:
                if name not in fields:
                    msg = f"unknown limit {name!r}; there are {', '.join(fields)}"
                    raise TypeError(msg)
            vars(self).update({name: getattr(type(self), name) for name in fields}, **values)

        def __repr__(self) -> str:
            fields = (f"{name}={value!r}" for name, value in vars(self).items())
            return f"Limits({', '.join(fields)})"
