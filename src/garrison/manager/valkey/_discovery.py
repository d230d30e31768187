"""Which server to ask: the primary of a URL's hosts, or the cluster's node with the prefix."""

from __future__ import annotations

import threading

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import LinkBroken
from garrison.manager.valkey._errors import NotNow
from garrison.manager.valkey._wire import Wire, place_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from garrison.manager.valkey._url import ValkeyUrl

__all__ = ["Discovery", "refuse_eviction"]

NO_EVICTION = b"noeviction"


class Discovery:
    """The servers that are known, the last good one first."""

    def __init__(self, url: ValkeyUrl, tag: str) -> None:
        self._url, self._tag = url, tag
        self._places = list(url.places())
        self._lock = threading.Lock()

    def connect(self) -> Wire:
        """Connect to the server that has the keys, or raise what the first one has answered."""
        with self._lock:
            places = list(self._places)
        failure: Exception | None = None
        for place in places:
            try:
                wire = self._usable(Wire(self._url, place))
            except (NotNow, LinkBroken, OSError) as error:
                failure = failure or error
                if isinstance(error, PermissionError):
                    break
            else:
                self._prefer(wire.place)
                return wire
        assert failure is not None  # noqa: S101 - there is one place at least
        try:
            raise failure
        finally:
            del failure  # it has this frame in its traceback

    def _usable(self, wire: Wire) -> Wire:
        try:
            self._check_mode(wire)
            return self._owner(wire) if self._url.is_cluster else wire
        except BaseException:
            wire.close()
            raise

    def _check_mode(self, wire: Wire) -> None:
        """Raise unless the server is what its URL says, and takes writes."""
        is_cluster = wire.mode == "cluster"
        if is_cluster != self._url.is_cluster:
            what, scheme = ("a", "valkey+cluster") if is_cluster else ("no", "valkey")
            msg = f"{self._url} is {what} cluster: its URL begins with {scheme}://"
            raise ValueError(msg)
        if not is_cluster and not wire.is_primary:
            raise NotNow(f"READONLY {place_name(wire.place)} is a replica", elsewhere=True)

    def _owner(self, wire: Wire) -> Wire:
        """Return a connection to the node that has the slot of the prefix."""
        slot = wire.ask(("CLUSTER", "KEYSLOT", self._tag))
        nodes, owner = [], None
        for first, last, primary, *replicas in wire.ask(("CLUSTER", "SLOTS")):
            nodes += [_node(wire, each) for each in (primary, *replicas)]
            if first <= slot <= last:
                owner = _node(wire, primary)
        with self._lock:
            self._places += [each for each in dict.fromkeys(nodes) if each not in self._places]
        if owner is None:
            raise NotNow(f"CLUSTERDOWN no node has slot {slot}", elsewhere=True)
        if owner == wire.place:
            return wire
        wire.close()
        return Wire(self._url, owner)

    def _prefer(self, place: tuple[str, int] | str) -> None:
        with self._lock:
            if self._places[0] != place:
                self._places = [place, *(each for each in self._places if each != place)]

    def after_fork(self) -> None:
        """In a child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()


def _node(wire: Wire, node: Sequence[Any]) -> tuple[str, int]:
    """Return host and port of a node; without a host it is the one that was asked."""
    host = node[0].decode() if node[0] else wire.place[0]
    return host, int(node[1])


def refuse_eviction(wire: Wire) -> None:
    """Raise if the server deletes keys when its memory is full."""
    try:
        info = wire.ask(("INFO", "memory"))
    except PermissionError:
        return
    facts = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
    policy = facts.get(b"maxmemory_policy", NO_EVICTION)
    if policy != NO_EVICTION and facts.get(b"maxmemory", b"0") != b"0":
        wire.close()
        msg = (
            f"the server at {wire.url} deletes keys when its memory is full: set its "
            f"maxmemory-policy, which is {policy.decode()}, to noeviction"
        )
        raise ValueError(msg)
