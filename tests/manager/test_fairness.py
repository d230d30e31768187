"""A client whose store operations take long delays other clients by one operation at most."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison.manager.server._dispatch import Dispatcher
from garrison.manager.server._store_service import StoreService
from garrison.manager.server._store_session import MAX_WAITING
from garrison.net import Limits, Verb
from net.by_hand import ByHand, PairedPeer, by_hand

EVERY_OPERATION_IS_LONG = Limits(turn_s=0.0)


@pytest.fixture
def manager() -> Iterator[Any]:
    with garrison.Manager() as made:
        yield made
    vars(made).clear()  # pytest keeps it for a while


@pytest.fixture
def hand(manager: Any) -> Iterator[ByHand]:
    dispatcher = Dispatcher()
    with by_hand(EVERY_OPERATION_IS_LONG, dispatcher) as made:
        dispatcher.add(StoreService(made.loop, manager.store, plain_only=False))
        yield made
        dispatcher.ended()
    vars(made).clear()


def ask_for_inserts(peer: PairedPeer, shared: Any, first: int, last: int) -> None:
    value = shared._backend.list_encoded(shared._container_id, 0)
    for number in range(first, last + 1):
        peer.channel.put(number, Verb.STORE, ["list_insert", shared._container_id, 1, value])
    peer.send()


def answers(hand: ByHand, peer: PairedPeer, count: int) -> list[Any]:
    """Make turns until so many replies have come; return their numbers."""
    heard: list[Any] = []
    while len(heard) < count:
        hand.turns(1)
        heard += [number for number, _, _ in peer.heard()]
    return heard


@pytest.mark.parametrize("warm", [False, True])
def test_client_is_served_between_the_long_operations_of_another(
    manager: Any, hand: ByHand, warm: bool
) -> None:
    shared = manager.list([1, 2])
    flooder, honest = hand.known_peer(), hand.known_peer()
    begin = 1
    if warm:  # its next requests are one batch
        ask_for_inserts(flooder, shared, 1, 1)
        answers(hand, flooder, 1)
        begin = 2
    ask_for_inserts(flooder, shared, begin, 60)
    hand.turns(1)
    honest.say(1, Verb.STORE, "length", shared._container_id)
    hand.turns(1)
    ((_, _, (length,)),) = honest.heard()
    assert length < 10
    assert answers(hand, flooder, 61 - begin) == list(range(begin, 61))
    assert len(shared) == 62


def test_deferred_clients_take_turns(manager: Any, hand: ByHand) -> None:
    lists = [manager.list([1, 2]) for _ in range(3)]
    peers = [hand.known_peer() for _ in lists]
    for peer, shared in zip(peers, lists, strict=True):
        ask_for_inserts(peer, shared, 1, 20)
    while len(lists[0]) < 12:
        hand.turns(1)
    assert all(abs(len(shared) - 12) <= 2 for shared in lists)
    for peer in peers:
        answers(hand, peer, 20)


def test_requests_that_wait_for_their_turn_are_bounded(manager: Any, hand: ByHand) -> None:
    shared = manager.list([1, 2])
    flooder = hand.known_peer()
    count = 3 * MAX_WAITING
    ask_for_inserts(flooder, shared, 1, count)
    hand.turns(20)
    assert not flooder.session._mask & select.EPOLLIN
    assert len(flooder.session.in_progress) < 2 * MAX_WAITING
    assert answers(hand, flooder, count) == list(range(1, count + 1))


def test_client_that_is_gone_is_not_continued(manager: Any, hand: ByHand) -> None:
    shared = manager.list([1, 2])
    flooder = hand.known_peer()
    ask_for_inserts(flooder, shared, 1, 60)
    hand.turns(1)
    flooder.sock.close()
    hand.turns(100)
    assert len(shared) < 10


@pytest.mark.parametrize("warm", [False, True])
def test_requests_wait_for_a_busy_store_and_all_are_answered(
    manager: Any, hand: ByHand, warm: bool
) -> None:
    shared = manager.list([1, 2])
    waiting, honest = hand.known_peer(), hand.known_peer()
    begin = 1
    if warm:  # its next requests are one batch
        ask_for_inserts(waiting, shared, 1, 1)
        answers(hand, waiting, 1)
        begin = 2
    with manager.transaction():
        shared.append(3)
        ask_for_inserts(waiting, shared, begin, 60)
        hand.turns(20)
        assert waiting.heard() == []
        honest.say(1, Verb.STORE, "length", shared._container_id)
        hand.turns(2)
        ((_, _, (length,)),) = honest.heard()
        assert length == 1 + begin
    assert answers(hand, waiting, 61 - begin) == list(range(begin, 61))
    assert len(shared) == 63
