"""Messages that a client begins and does not finish, and messages of very many values."""

from __future__ import annotations

import contextlib
import gc
import struct
import sys
from collections.abc import Iterator

import pytest

from garrison.net._limits import Limits

from .by_hand import PairedPeer, by_hand
from .wire_tools import COUNT, ECHO, KEY, Peer, serving

PART = 1 << 16
MORE = 0x80


def frame(size: int, number: int, verb: int = COUNT) -> bytes:
    return struct.pack(">IIB", size, number, verb) + bytes(size)


def say_raw(peer: PairedPeer, data: bytes) -> None:
    """Send bytes behind the handshake, with turns of the loop in between."""
    sealed = memoryview(peer.channel.secure_channel.seal(data))
    while sealed:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            sealed = sealed[peer.sock.send(sealed) :]
        peer.by_hand.turns(1)
        if not peer.session.open:
            return


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_unfinished_messages_are_freed_when_the_connection_is_closed() -> None:
    with by_hand() as hand, without_garbage_collection():
        peer = hand.known_peer()
        say_raw(peer, frame(PART, 1, COUNT | MORE))
        channel = peer.session._secure_channel
        assert channel.buffered == PART
        peer.session.drop("the test says so")
        # This function's, and before CPython 3.14 that of the call.
        assert sys.getrefcount(channel) <= 2


@pytest.mark.parametrize("begins", [frame(PART, 1, COUNT | MORE), frame(PART, 1)[:-1]])
def test_client_that_does_not_finish_a_message_is_dropped(
    begins: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(unfinished_message_s=0.05)
    with serving(limits=limits) as server, server.connect() as honest:
        with Peer(server.address, limits=limits) as peer:
            peer.shake_hands()
            peer.sock.sendall(peer.channel.secure_channel.seal(begins))
            assert peer.is_dropped()
        assert "has not finished a message" in caplog.text
        assert honest.ask(ECHO, 1) == [1]
        assert server.call(lambda: server.loop.unfinished.total) == 0


def test_unfinished_messages_of_all_clients_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(max_unfinished=8 * PART)
    with by_hand(limits) as hand:
        small, large = hand.known_peer(), hand.known_peer()
        say_raw(small, frame(PART, 1, COUNT | MORE))
        for _ in range(8):
            say_raw(large, frame(PART, 1, COUNT | MORE))
        hand.turns()
        assert (small.session.open, large.session.open) == (True, False)
        assert "bytes of unfinished messages" in caplog.text
        assert hand.loop.unfinished.total == PART
        say_raw(small, frame(0, 1))
        assert hand.loop.unfinished.total == 0
        assert hand.service.count == 0  # its fields are no list


def test_message_of_too_many_values_is_refused() -> None:
    limits = Limits(max_values=1000)
    with serving(limits=limits) as server, server.connect() as honest:
        with Peer(server.address, KEY, Limits()) as peer:
            peer.shake_hands()
            peer.say(1, ECHO, [1] * 1000)
            assert peer.is_dropped()
        assert honest.ask(ECHO, [1] * 900) == [[1] * 900]


def test_client_raises_for_a_message_of_more_values_than_its_server_accepts() -> None:
    limits = Limits(max_values=1000)
    with serving(limits=limits) as server, server.connect(limits=limits) as honest:
        with pytest.raises(OverflowError, match="more than 1000 values in one message, the limit"):
            honest.ask(ECHO, [1] * 1000)
        assert honest.ask(ECHO, [1] * 900) == [[1] * 900]
