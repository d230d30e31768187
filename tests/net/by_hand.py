"""A loop whose turns the test makes, and its peers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from garrison.net._event_loop import EventLoop
from garrison.net._handshake import ClientHandshake
from garrison.net._limits import Limits
from garrison.net._session import Session

from .wire_tools import KEY, Peer, Service


class ByHand:
    """A loop whose turns the test makes, and peers at the other ends of socket pairs."""

    def __init__(self, limits: Limits | None = None, service: Any = None) -> None:
        self.service = service or Service()
        self.loop = EventLoop(self.service, KEY, limits)

    def peer(self, key: bytes = KEY) -> PairedPeer:
        here, there = socket.socketpair()
        return PairedPeer(self, there, self.loop.adopt(here), key)

    def known_peer(self) -> PairedPeer:
        peer = self.peer()
        peer.shake_hands()
        return peer

    def turns(self, count: int = 3) -> None:
        for _ in range(count):
            self.loop.run_once(0)


class PairedPeer(Peer):
    def __init__(self, by_hand: ByHand, sock: socket.socket, session: Session, key: bytes) -> None:
        self.by_hand, self.session = by_hand, session
        self.sock = sock
        self.sock.setblocking(False)
        self.channel = ClientHandshake(key, by_hand.loop.limits)

    def shake_hands(self) -> None:
        self.send()
        self.by_hand.turns(1)
        self.channel.receive(self.sock.recv(4096))
        self.send()
        self.by_hand.turns(1)
        assert self.session.authenticated

    def heard(self) -> list[Any]:
        """Return what is here by now."""
        messages: list[Any] = []
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.sock.recv(1 << 16):
                messages += self.channel.receive(data)
        return messages

    def is_cut(self) -> bool:
        try:
            while self.sock.recv(1 << 16):
                pass
        except BlockingIOError:
            return False
        except ConnectionResetError:
            pass
        return True


@contextlib.contextmanager
def by_hand(limits: Limits | None = None, service: Any = None) -> Iterator[ByHand]:
    hand = ByHand(limits, service)
    peers: list[PairedPeer] = []
    make = hand.peer

    def peer(key: bytes = KEY) -> PairedPeer:
        peers.append(make(key))
        return peers[-1]

    hand.peer = peer  # type: ignore[method-assign]
    try:
        yield hand
    finally:
        for one in peers:
            one.sock.close()
        hand.loop.close()
