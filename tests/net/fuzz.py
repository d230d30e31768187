"""Mutated handshakes, records and frames, against both ends of a channel and against a loop.

Run it at length with ``make fuzz FUZZ=wire``, or here with a seed and a count. Only a
`ChannelError` or an `AuthenticationError` may come out, memory stays bounded, and an honest
session next to the harm stays served. What fails is printed with the seed and the number of its
input, which repeat it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import random
import socket
import struct
import sys
import time
from multiprocessing import AuthenticationError
from typing import Any

from garrison.errors import ChannelError
from garrison.net._event_loop import EventLoop
from garrison.net._handshake import DONE, ClientHandshake, Handshake, ServerHandshake
from garrison.net._limits import Limits
from garrison.net._server_keys import ServerKeys

from .wire_tools import ECHO, KEY, Service

LIMITS = Limits(
    max_frame=1 << 16, max_message=1 << 18, send_buffer_high=1 << 16, max_unauthenticated=4
)
KEPT = LIMITS.max_message + 2 * LIMITS.max_frame
ALLOWED = (ChannelError, AuthenticationError)
LENGTHS = (0, 1, 8, 16, 17, 127, 128, 255, 256, 257, 1 << 15, 65_535, 1 << 16, 1 << 31, 2**32 - 1)
WELL_FORMED = (b"\xc0", b"\x05", b"\xa1x", b"\xc4\x01y", b"\xcb" + bytes(8), b"\x92\x01\x90")
TAGS = bytes([0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, *range(0xC0, 0xE0), 0xE0, 0xFF])


class Fuzzer:
    """One seed's inputs, each made of its number alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.refused = self.accepted = 0
        self.corpus = _corpus()
        self.loop = EventLoop(Service(), KEY, LIMITS)
        self.honest = Pair(self.loop)
        self.honest.shake_hands()

    def close(self) -> None:
        self.honest.sock.close()
        self.loop.close()

    def run(self, number: int) -> None:
        """Try one input on one target."""
        chance = random.Random(f"{self.seed}:{number}")
        target = chance.choice((self.server, self.client, self.inside, self.outside, self.served))
        try:
            target(chance)
        except BaseException as error:
            if hasattr(error, "add_note"):
                error.add_note(f"--seed {self.seed} --only {number}")
            raise
        if number % 50 == 0:
            self.ask_honestly(number)

    def ask_honestly(self, number: int) -> None:
        """Check that the session next to the harm is served."""
        self.honest.channel.put(number + 1, ECHO, ("still there", number))
        self.honest.send(self.honest.channel.take())
        assert self.honest.turns() == [(number + 1, DONE, ["still there", number])]
        assert len(self.loop.sessions) == 1
        assert not self.loop.acceptor.unauthenticated

    # --- Targets --------------------------------------------------------------------------

    def server(self, chance: random.Random) -> None:
        """Give a server's end something else than a client's first words."""
        client, server = ClientHandshake(KEY, LIMITS), ServerHandshake(ServerKeys(KEY), LIMITS)
        words = client.take()
        if chance.random() < 0.5:
            self.feed(chance, server, mutated(chance, words, self.corpus))
            return
        server.receive(words)
        client.receive(server.take())
        client.put(1, ECHO, ("x",))
        self.feed(chance, server, mutated(chance, client.take() + client.take(), self.corpus))

    def client(self, chance: random.Random) -> None:
        """Give a client's end something else than a server's answer."""
        client, server = ClientHandshake(KEY, LIMITS), ServerHandshake(ServerKeys(KEY), LIMITS)
        server.receive(client.take())
        self.feed(chance, client, mutated(chance, server.take(), self.corpus))

    def inside(self, chance: random.Random) -> None:
        """Give either end properly sealed records of malformed frames."""
        client, server = established()
        sender, receiver = (client, server) if chance.random() < 0.7 else (server, client)
        for _ in range(chance.randrange(1, 4)):
            if not self.feed(
                chance, receiver, sender.secure_channel.seal(frames(chance, self.corpus))
            ):
                return

    def outside(self, chance: random.Random) -> None:
        """Give a server's end damaged records."""
        client, server = established()
        for number in range(1, chance.randrange(2, 5)):
            client.put(
                number, ECHO, (chance.randbytes(chance.choice((0, 10, 300, 70_000)) % 60_000),)
            )
        self.feed(chance, server, mutated(chance, client.take(), self.corpus))

    def served(self, chance: random.Random) -> None:
        """Do the same to a loop, through a socket."""
        peer = Pair(self.loop)
        try:
            if chance.random() < 0.2:
                peer.send(mutated(chance, peer.channel.take(), self.corpus))
            else:
                peer.shake_hands()
                for _ in range(chance.randrange(1, 4)):
                    peer.send(peer.channel.secure_channel.seal(frames(chance, self.corpus)))
                    peer.turns()
                    assert not peer.session.open or peer.session._secure_channel.buffered <= KEPT
                if chance.random() < 0.5:
                    peer.send(mutated(chance, self.corpus[0], self.corpus))
            peer.turns()
        except ALLOWED:
            self.refused += 1
        finally:
            peer.sock.close()
            for _ in range(4):
                self.loop.run_once(0)
            assert not peer.session.open
            self.loop.service.sessions.clear()  # type: ignore[attr-defined]
            self.loop.service.kept.clear()  # type: ignore[attr-defined]
            self.loop.service.gone.clear()  # type: ignore[attr-defined]
            self.loop.service.batches.clear()  # type: ignore[attr-defined]

    def feed(self, chance: random.Random, channel: Handshake, data: bytes) -> bool:
        """Feed it in pieces; whether the channel is still of use."""
        try:
            for piece in pieces(chance, data):
                for number, verb, fields in channel.receive(piece):
                    assert isinstance(number, int)
                    assert 0 <= verb < 256
                    assert isinstance(fields, list)
                    self.accepted += 1
                assert len(channel._buffer) <= len(piece) + 600
                assert channel.secure_channel is None or channel.secure_channel.buffered <= KEPT
        except ALLOWED:
            self.refused += 1
            return False
        return True


class Pair:
    """A peer of a loop at the other end of a socket pair."""

    def __init__(self, loop: EventLoop) -> None:
        here, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.loop = loop
        self.session = loop.adopt(here)
        self.channel = ClientHandshake(KEY, LIMITS)

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def shake_hands(self) -> None:
        self.send(self.channel.take())
        self.turns()
        self.send(self.channel.take())
        self.turns()
        assert self.session.authenticated

    def turns(self) -> list[Any]:
        messages: list[Any] = []
        for _ in range(4):
            self.loop.run_once(0)
            with contextlib.suppress(OSError):
                while data := self.sock.recv(1 << 16):
                    messages += self.channel.receive(data)
        return messages


def established() -> tuple[ClientHandshake, ServerHandshake]:
    client, server = ClientHandshake(KEY, LIMITS), ServerHandshake(ServerKeys(KEY), LIMITS)
    server.receive(client.take())
    client.receive(server.take())
    server.receive(client.take())
    return client, server


# --- Inputs --------------------------------------------------------------------------------------


def _corpus() -> list[bytes]:
    client, server = ClientHandshake(KEY, LIMITS), ServerHandshake(ServerKeys(KEY), LIMITS)
    first: bytes = client.take()
    server.receive(first)
    answer: bytes = server.take()
    client.receive(answer)
    return [
        first,
        answer,
        client.take(),
        framed(1, 1, b"\x91\xa3key"),
        framed(2, 1, b"\x93\xc4\x02ab\xcb" + bytes(8) + b"\xd3" + bytes(8)),
        framed(3, 0x81, b"\x92\xc4\xff") + framed(3, 1, bytes(300)),
        framed(0, 0x7F, b"\x90") + framed(0, 0x7E, b"\x90"),
        framed(4, 2, b"\xdd\0\0\1\0" + b"\xc0" * 256),
        b"GET / HTTP/1.1\r\n\r\n",
    ]


def framed(number: int, verb: int, fields: bytes) -> bytes:
    return struct.pack(">IIB", len(fields), number, verb) + fields


def frames(chance: random.Random, corpus: list[bytes]) -> bytes:
    """Return the plain text of some frames, most of which are wrong somewhere."""
    kind = chance.random()
    if kind < 0.4:
        data = b"".join(chance.choice(corpus[3:8]) for _ in range(chance.randrange(1, 4)))
        return mutated(chance, data, corpus) or b"x"
    if kind < 0.9:
        return b"".join(
            framed(chance.randrange(4), chance.randrange(256), b"\x91" + value(chance, 0))
            for _ in range(chance.randrange(1, 6))
        )
    return struct.pack(">IIB", chance.choice(LENGTHS), 1, 1) + chance.randbytes(20)


def value(chance: random.Random, depth: int) -> bytes:
    """Return something that looks like msgpack, and sometimes is."""
    if chance.random() < 0.4:
        return chance.choice(WELL_FORMED)
    if depth < 20 and chance.random() < 0.6:
        return b"\x91" + value(chance, depth + 1)
    tag = bytes([chance.choice(TAGS)])
    length = chance.choice(LENGTHS)
    size = chance.choice((1, 2, 4))
    return (
        tag
        + (length % (1 << 8 * size)).to_bytes(size, "big")
        + chance.randbytes(chance.randrange(40))
    )


def mutated(chance: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Damage some bytes in one or a few of the usual ways."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(out) + 1)
        end = min(len(out), at + chance.choice((1, 2, 4, 16, 64)))
        way = chance.randrange(7)
        if way == 0 and out:
            out[at % len(out)] ^= 1 << chance.randrange(8)
        elif way == 1:
            out[at:end] = chance.randbytes(end - at)
        elif way == 2:
            del out[at:end]
        elif way == 3:
            out[at:at] = chance.randbytes(chance.choice((1, 2, 9, 300)))
        elif way == 4:
            out[at:at] = out[at:end]
        elif way == 5:
            del out[at:]
        else:
            out[at:end] = chance.choice(LENGTHS).to_bytes(4, "big")
    if chance.random() < 0.1:
        out += chance.choice(corpus)
    return bytes(out)


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """Cut as a network does."""
    if chance.random() < 0.5 or not data:
        return [data]
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.randrange(1, 6)))
    return [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, default=0, help="inputs, in place of seconds")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", type=int, default=None, help="one input, to repeat a failure")
    options = parser.parse_args()
    logging.disable()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    fuzzer = Fuzzer(seed)
    deadline = time.monotonic() + options.seconds
    number = 0
    if options.only is not None:
        fuzzer.run(options.only)
        return
    while number < options.count if options.count else time.monotonic() < deadline:
        fuzzer.run(number)
        number += 1
    fuzzer.close()
    sys.stdout.write(
        f"seed {seed}: {number} inputs, {fuzzer.refused} refused, {fuzzer.accepted} messages "
        "among them well-formed\n"
    )


if __name__ == "__main__":
    main()
