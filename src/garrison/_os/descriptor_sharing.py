"""Opening the memory of another process: through ``/proc``, else over a socket.

::

    worker (in a chroot, of another user)          supervisor
       request (process, number) + reply end ──▶   opens it, if it is memory of the pool's processes
       descriptor ◀──────────────────────────────  on the reply end

A process whose ``/proc`` others cannot use (there is none, or the process has dropped privileges)
sends its own memory: a thread listens on an abstract socket, and serves processes that have the
program's `authkey`.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import socket
import stat
import struct
import threading
from _blake2 import blake2b  # hashlib would load OpenSSL
from _operator import _compare_digest  # hmac would load hashlib
from multiprocessing import process

from garrison import _core, _os
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "DescriptorServer",
    "address",
    "open_fd_of_process",
    "receive_fd",
    "request_fd",
    "send_fds",
    "sit_opposite",
]

_REQUEST = struct.Struct("ii")
_NUMBER = struct.Struct("i")
_CREDENTIALS = struct.Struct("iii")
REPLY_TIMEOUT_S = 10.0
"""Seconds in which the other side must answer."""


def send_fds(own: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """As `socket.send_fds`, which ignores its flags; without them SIGPIPE might end the program."""
    rights = struct.pack(f"{len(fds)}i", *fds)
    own.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_NOSIGNAL)


def _is_memory(fd: int) -> bool:
    """Whether it is unnamed memory: nothing else is ever sent."""
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and not status.st_nlink and _core.is_memory(fd)


# --- The supervisor's side ------------------------------------------------------------------------


class DescriptorServer:
    """A supervisor's socket for the requests of its workers, which share the other end."""

    def __init__(self, fds: tuple[int, int] | None = None) -> None:
        # Without the methods in Python, which touch, and so copy, pages of each new supervisor.
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        pair: Any
        if fds is None:
            pair = _socket.socketpair(socket.AF_UNIX, kind)
        else:
            pair = [_socket.socket(fileno=fd) for fd in fds]
        self._ours: socket.socket = pair[0]
        self._theirs: socket.socket = pair[1]

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is a request."""
        return self._ours.fileno()

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()

    def serve(self, is_known: Callable[[int], bool]) -> None:
        """Answer one request; `is_known` tells whether a process belongs to the pool."""
        try:
            request, fds, _, _ = socket.recv_fds(self._ours, _REQUEST.size, 1)
        except OSError:
            return
        try:
            if fds and len(request) == _REQUEST.size:
                pid, number = _REQUEST.unpack(request)
                with socket.socket(fileno=os.dup(fds[0])) as reply:
                    reply.setblocking(False)
                    _answer(reply, pid, number, is_known)
        except OSError:
            pass  # the worker is gone, or has sent no socket
        finally:
            for fd in fds:
                os.close(fd)

    def sit_opposite(self) -> None:
        """In a worker: send requests from now on, and answer none."""
        self._ours.close()
        self._theirs.setblocking(True)
        sit_opposite(self._theirs.detach())


def _answer(reply: socket.socket, pid: int, number: int, is_known: Callable[[int], bool]) -> None:
    try:
        if not is_known(pid):
            raise PermissionError
        found = _open(pid, number)
    except OSError:
        reply.send(b"-", socket.MSG_NOSIGNAL)
        return
    try:
        send_fds(reply, b"+", [found])
    finally:
        os.close(found)


def _open(pid: int, number: int) -> int:
    try:
        found = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        found = _core.copy_descriptor(pid, number)
    if _is_memory(found):
        return found
    os.close(found)
    raise PermissionError


# --- The worker's side ----------------------------------------------------------------------------

_desk: _core.Descriptor | None = None


def sit_opposite(fd: int) -> None:
    """In a worker: send requests over this socket from now on."""
    global _desk  # noqa: PLW0603 - one per process
    _desk = _core.Descriptor(fd)


def request_fd(pid: int, number: int) -> int:
    """Let the supervisor open a descriptor of another process.

    Raises
    ------
    OSError
        If there is no supervisor, or it cannot open it.
    """
    if _desk is None:
        msg = "no supervisor to ask"
        raise FileNotFoundError(msg)
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine:
        with theirs, socket.socket(fileno=os.dup(_desk.fileno())) as desk:
            send_fds(desk, _REQUEST.pack(pid, number), [theirs.fileno()])
        mine.settimeout(REPLY_TIMEOUT_S)
        _, fds, _, _ = socket.recv_fds(mine, 1, 1)
    if not fds:
        msg = f"the supervisor cannot open what process {pid} has sent"
        raise FileNotFoundError(msg)
    os.set_inheritable(fds[0], False)
    return fds[0]


# --- A sender whose /proc is closed ---------------------------------------------------------------

_listening: tuple[int, str] = (0, "")
_starting = threading.Lock()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_starting._at_fork_reinit)  # type: ignore[attr-defined]


def address() -> str:
    """Return the address on which this process sends its memory; empty if ``/proc`` is open."""
    if _core.is_visible():
        return ""
    global _listening  # noqa: PLW0603 - one per process
    with _starting:
        if _listening[0] != os.getpid():
            _listening = os.getpid(), _listen()
        return _listening[1]


def _listen() -> str:
    place = f"\0garrison-{os.getpid()}-{os.urandom(8).hex()}"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(place)
    server.listen(128)
    threading.Thread(target=_serve, args=(server,), name="garrison-memory", daemon=True).start()
    return place


def _serve(server: socket.socket) -> None:
    while True:
        # The peer has no key, is slow, or is gone.
        with contextlib.suppress(Exception):
            accepted, _ = server.accept()
            with accepted:
                if _uid_of(accepted) in {0, os.geteuid()}:
                    _send_fd(accepted)


def _uid_of(peer: socket.socket) -> int:
    found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(found)[1]
    return uid


def _send_fd(accepted: socket.socket) -> None:
    accepted.settimeout(REPLY_TIMEOUT_S)
    _authenticate(accepted, mine=_GIVES, theirs=_TAKES)
    (number,) = _NUMBER.unpack(_read(accepted, _NUMBER.size))
    if _is_memory(number):
        send_fds(accepted, b"+", [number])


def receive_fd(place: str, number: int) -> int:
    """Request a descriptor from a sender.

    Raises
    ------
    OSError
        If the sender does not send it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(REPLY_TIMEOUT_S)
        peer.connect(place)
        _authenticate(peer, mine=_TAKES, theirs=_GIVES)
        peer.sendall(_NUMBER.pack(number), socket.MSG_NOSIGNAL)
        _, fds, _, _ = socket.recv_fds(peer, 1, 1)
    if not fds:
        msg = "the sender has not sent the descriptor"
        raise FileNotFoundError(msg)
    os.set_inheritable(fds[0], False)
    return fds[0]


_GIVES, _TAKES = b"gives", b"takes"
_NONCE = 32
_PROOF = 32


def _authenticate(peer: socket.socket, *, mine: bytes, theirs: bytes) -> None:
    """Prove to each side that the other has the program's `authkey`.

    Each answers the other's random number with a keyed BLAKE2 (RFC 7693) of both numbers and of its
    own role, so no answer can be reflected.
    """
    my_nonce = os.urandom(_NONCE)
    peer.sendall(my_nonce, socket.MSG_NOSIGNAL)
    their_nonce = _read(peer, _NONCE)
    peer.sendall(_proof(mine, my_nonce, their_nonce), socket.MSG_NOSIGNAL)
    if not _compare_digest(_read(peer, _PROOF), _proof(theirs, their_nonce, my_nonce)):
        msg = "the sender has not sent the descriptor: the authkeys differ"
        raise PermissionError(msg)


def _proof(role: bytes, own_nonce: bytes, other_nonce: bytes) -> bytes:
    key = blake2b(process.current_process().authkey).digest()
    return blake2b(role + own_nonce + other_nonce, key=key, digest_size=_PROOF).digest()


def _read(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = peer.recv(size - len(data))
        if not part:
            msg = "the sender has not sent the descriptor: it has closed the connection"
            raise PermissionError(msg)
        data += part
    return data


# --- The receiver ---------------------------------------------------------------------------------

_ELSEWHERE = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP})
"""Errors of a ``/proc`` that does not show the process, or is not there."""


def open_fd_of_process(
    pid: int, fd: int, known_as: _os.FileId | None = None, address: str = ""
) -> int:
    """Open the memory that another process has open as a descriptor.

    Through ``/proc``, which is permitted for processes of the same user; in a ``chroot``, or after
    a change of user, by the supervisor; if ``/proc`` cannot be used, by the sender itself.

    Parameters
    ----------
    pid, fd : int
        The process, and its descriptor.
    known_as : tuple of int, optional
        Device and inode of the file.
    address : str, optional
        The socket on which the sender sends its descriptors, if it has one.

    Raises
    ------
    FileNotFoundError
        If the descriptor belongs to another file.
    OSError
        If it cannot be opened.
    """
    try:
        found = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
        found = _open_through_others(pid, fd, address, error)
    if known_as is not None and _os.file_id(found) != known_as:
        os.close(found)
        msg = "the sender has closed the descriptor, and its number belongs to another file"
        raise FileNotFoundError(msg)
    return found


def _open_through_others(pid: int, fd: int, address: str, first: OSError) -> int:
    for ask in (_core.copy_descriptor, request_fd):
        try:
            return ask(pid, fd)
        except OSError:
            continue
    if address:
        return receive_fd(address, fd)
    raise first
