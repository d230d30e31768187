"""What a server logs about its clients is bounded, whatever they send."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from garrison.manager.server._dispatch import Dispatcher, RequestService
from garrison.net._rate_limited_log import LINES_PER_SECOND, MAX_LENGTH
from garrison.net._session import Session
from net.by_hand import ByHand, PairedPeer, by_hand

REFUSED, BROKEN, UNKNOWN = 70, 71, 72


class Fussy(RequestService):
    """Refuses requests, or fails at them."""

    def __init__(self) -> None:
        self.verbs = {REFUSED: self._refuse, BROKEN: self._fail}

    @staticmethod
    def _refuse(_peer: Any, _rid: int, args: list[Any]) -> None:
        raise ValueError(f"no {args[0]}")

    @staticmethod
    def _fail(_peer: Any, _rid: int, _args: list[Any]) -> None:
        raise RuntimeError("a mistake of the server's")


@pytest.fixture
def hand() -> Iterator[ByHand]:
    dispatcher = Dispatcher()
    dispatcher.add(Fussy())
    with by_hand(service=dispatcher) as made:
        yield made


@pytest.mark.parametrize("verb", [REFUSED, BROKEN, UNKNOWN])
def test_many_bad_requests_write_few_lines(
    hand: ByHand, verb: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still(hand, monkeypatch)
    peer = hand.known_peer()
    for number in range(1, 2001):
        peer.channel.put(number, verb, ["x"])
    send_all(hand, peer)
    assert not peer.session.in_progress
    assert len(caplog.records) <= LINES_PER_SECOND
    hand.loop.log.flush()
    assert len(caplog.records) <= LINES_PER_SECOND + 1
    if verb != UNKNOWN:
        left_out = f"and {2000 - LINES_PER_SECOND} more lines about clients were left out"
        assert left_out in caplog.text


def stand_still(hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all of it happen within one second."""
    monkeypatch.setattr(hand.loop.log, "_call_later", lambda *_: None)
    clock = SimpleNamespace(monotonic=lambda: 1000.0)
    monkeypatch.setattr("garrison.net._rate_limited_log.time", clock)


def send_all(hand: ByHand, peer: PairedPeer) -> None:
    peer.send()
    received = 0
    while received < 2000 and peer.session.open:
        hand.turns(1)
        received += len(peer.heard())


def test_text_of_a_client_is_one_line_of_bounded_length(
    hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    peer = hand.known_peer()
    peer.say(1, REFUSED, "luck\nWARNING all is well")
    peer.say(2, REFUSED, "x" * 100_000)
    hand.turns(5)
    assert isinstance(peer.session, Session)
    first, second = (record.getMessage() for record in caplog.records)
    assert "no luck\\x0aWARNING all is well" in first
    assert len(second) < MAX_LENGTH + 50
    assert caplog.records[0].levelno == logging.WARNING
