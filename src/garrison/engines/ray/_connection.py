"""The program's connection to Ray: shared by its pools, quiet, and refused within seconds.

Ray has one connection for a process. A program's own is used and left alone; one that a pool made
ends with the last pool that uses it. Ray by itself retries where nothing listens (for 204 s, then
SystemExit), and ends the program a minute after its head is gone.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
from typing import NamedTuple

from garrison import _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.ray._failures import is_mismatch
from garrison.errors import EngineMismatch, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Connection", "connect"]

PROBE_S = 3.0
"""Seconds in which something has to answer at an address."""
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray ends this process when its head has been gone for a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "1000000000",
}
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of HTTP/2, and so of gRPC, begins."""
_CREDENTIALS = struct.Struct("3i")
_FRAME_HEAD, _HTTP2_SETTINGS = 9, 4


class _Target(NamedTuple):
    """What the connection is to: an address of the engine, or None for the program's own."""

    address: str | None
    probed: tuple[str, int] | None
    """Host and port that answer as long as the cluster is there."""
    is_client: bool
    is_new: bool = False
    """Whether the cluster was started here."""


class Connection:
    """A connection to a cluster, for one pool.

    Parameters
    ----------
    ray : module
        Ray.
    target : _Target
        What it is to.
    is_own : bool
        Whether a pool made it.
    """

    def __init__(self, ray: Any, target: _Target, *, is_own: bool) -> None:
        self.ray = ray
        self._target, self._is_own = target, is_own
        self._users = 0
        self._raylet = None if target.is_client else _raylet_of(ray)

    @property
    def can_grow(self) -> bool:
        """Whether nodes may join: not if a pool made the cluster, on this machine alone."""
        return not (self._is_own and self._target.is_new)

    @property
    def is_client(self) -> bool:
        """Whether all goes through Ray Client: there is no object store on this machine."""
        return self._target.is_client

    @property
    def where(self) -> str:
        """The address, for people."""
        host = self._target.probed
        return self._target.address or (f"{host[0]}:{host[1]}" if host else "this program's Ray")

    def answers(self) -> bool:
        """Whether the cluster's head is there."""
        probed = self._target.probed
        return probed is None or _listens(*probed) is None

    def has_node(self) -> bool:
        """Whether the node is there that this process works with: Ray ends it at a `put` if not."""
        return self._raylet is None or not select.select([self._raylet], [], [], 0)[0]

    def close(self) -> None:
        """Disconnect, if a pool made the connection and this is the last user of it."""
        global _current  # noqa: PLW0603 - Ray has one connection for a process
        with _lock:
            self._users -= 1
            if self._users or _current is not self:
                return
            _current = None
            if self._raylet is not None:
                os.close(self._raylet)
            if self._is_own:
                with _quietly(), contextlib.suppress(Exception):
                    self.ray.shutdown()
                _logger.setLevel(_usual_level)


_lock = threading.RLock()
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
_logger = logging.getLogger("ray")
_usual_level = logging.NOTSET
"""The level of Ray's logger when no pool has made a connection."""
_current: Connection | None = None


def connect(address: str | None, workers: int | None) -> Connection:
    """Return a connection; the caller closes it.

    Parameters
    ----------
    address : str or None
        ``"ray://host:port"`` of a Ray Client server, ``"host:port"`` of a head of which this
        machine is a node, ``"auto"``, ``"local"``; None for what the program has, what RAY_ADDRESS
        says, or a cluster on this machine alone, which ends with the pool.
    workers : int or None
        Processors that a new cluster on this machine has at least.

    Raises
    ------
    EngineUnavailable
        If Ray is not installed, nothing answers, or the program is connected to another cluster.
    EngineMismatch
        If Ray's or Python's versions differ.
    """
    global _current  # noqa: PLW0603 - as above
    with _lock, _quietly():
        ray = _load()
        if _current is not None and not ray.is_initialized():
            _current = None  # the program has shut Ray down
        if _current is None:
            _current = _of_program(ray, address) or _made(ray, address, workers)
        elif address not in {None, _current._target.address}:
            raise EngineUnavailable(_connected_elsewhere(address, _current.where))
        _current._users += 1
        return _current


def _load() -> Any:
    path = list(sys.path)
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise EngineUnavailable(
            'the engine "ray" needs Ray: pip install "garrison[ray]"'
        ) from error
    finally:
        # Ray puts packages of its own before all others: a program's psutil would be Ray's.
        added = [place for place in sys.path if place not in path]
        sys.path[:] = [*path, *added]
    return ray


def _connected_elsewhere(address: Any, where: str) -> str:
    return (
        f"no connection to Ray at {address}: this program is connected to {where}, and Ray "
        'has one connection for a process. Use that one (engine="ray"), or end it first'
    )


def _of_program(ray: Any, address: str | None) -> Connection | None:
    """Return the program's own connection, if it has one."""
    if not ray.is_initialized():
        return None
    is_client = bool(importlib.import_module("ray.util.client").ray.is_connected())
    head = None if is_client else ray.get_runtime_context().gcs_address
    if address not in {None, "auto", head} and not (is_client and "://" in str(address)):
        raise EngineUnavailable(_connected_elsewhere(address, head or "a Ray Client server"))
    return Connection(ray, _Target(address, _host_and_port(head), is_client), is_own=False)


def _made(ray: Any, address: str | None, workers: int | None) -> Connection:
    asked = address
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    probed = None
    if address == "local":
        options = {
            "num_cpus": max(workers or 0, _os.usable_cpus()),
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        options = {}
        if address != "auto":
            probed = _host_and_port(address)
            _check_listens(address, probed)
    with _explained(address):
        _init(ray, address, options)
    is_client = "://" in address
    if probed is None:
        probed = _host_and_port(ray.get_runtime_context().gcs_address)
    return Connection(ray, _Target(asked, probed, is_client, address == "local"), is_own=True)


def _init(ray: Any, address: str, options: dict[str, Any]) -> None:
    """Connect, and let Ray's logger say errors alone; some ways to connect set its level."""
    global _usual_level  # noqa: PLW0603 - one logger
    _usual_level = _logger.level
    _logger.setLevel(logging.ERROR)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            **options,
        )
    except BaseException:
        _logger.setLevel(_usual_level)
        raise
    _logger.setLevel(logging.ERROR)


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    # Ray raises SystemExit where it gives up.
    except (Exception, SystemExit) as error:
        mismatch = is_mismatch(error)
        if mismatch is not None:
            raise EngineMismatch(f"Ray at {address}: {mismatch}") from error
        if isinstance(error, ImportError):
            raise EngineUnavailable(
                f'Ray at {address} needs Ray Client: pip install "garrison[ray]"'
            ) from error
        said = " ".join(str(error.__cause__ or error).split())
        raise EngineUnavailable(f"no connection to Ray at {address}: {said}") from error


# --- Probing --------------------------------------------------------------------------------------


def _host_and_port(address: str | None) -> tuple[str, int] | None:
    text = (address or "").rpartition("://")[2].partition("/")[0]
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else None


def _raylet_of(ray: Any) -> int | None:
    """Return a descriptor of the process that is this machine's node, or None if it is hidden."""
    own = ray.get_runtime_context().get_node_id()
    paths = [node["RayletSocketName"] for node in ray.nodes() if node["NodeID"] == own]
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PROBE_S)
            connection.connect(paths[0])
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return os.pidfd_open(_CREDENTIALS.unpack(peer)[0])
    except (OSError, IndexError):
        return None


def _check_listens(address: str, probed: tuple[str, int] | None) -> None:
    if probed is None:
        raise EngineUnavailable(
            f"no address of Ray: {address!r}; it is ray://host:10001 or host:6379"
        )
    problem = _listens(*probed)
    if problem is not None:
        raise EngineUnavailable(
            f"no Ray at {address}: {problem}. Is the cluster up, and the port that of "
            f"{'its Ray Client server' if '://' in address else 'its head'}?"
        )


def _listens(host: str, port: int) -> str | None:
    """Return why this is no server of gRPC, or None."""
    try:
        with socket.create_connection((host, port), PROBE_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return None
            connection.sendall(_PREFACE)
            head = b""
            while len(head) < _FRAME_HEAD:
                part = connection.recv(_FRAME_HEAD - len(head))
                if not part:
                    break
                head += part
    except OSError as error:
        return str(error)
    return None if head[3:4] == bytes([_HTTP2_SETTINGS]) else "what answers is not Ray"


# --- Quiet ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep Ray from writing, and from changing settings of the process for good."""
    before = dict(os.environ)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
