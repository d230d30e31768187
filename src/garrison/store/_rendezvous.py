"""The state that processes of a store share besides its files: writers' lock and change words.

Both are in shared memory, which is opened through a process that has it open. A pickled store names
that process. A process that opens a directory has no pickle. So each process that has opened it
publishes the address of its memory in the file `notes`, and the next one tries these addresses::

    does a process have the store open (is its byte in `holders` locked)?
      no  ──▶ create lock and words, delete the addresses
      yes ──▶ open those of an address

One process at a time does that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib

from garrison import _os
from garrison._core import Descriptor
from garrison._os import file_trust
from garrison._os.byte_locks import ByteLocks
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import SharedMemoryGone, StoreBusy, StoreCorrupt
from garrison.memory import SharedBlock
from garrison.memory.handles import address_of, open_address
from garrison.store._folder import HOLDERS, NOTES, open_store_folder
from garrison.sync import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    SharedState = tuple[Lock, SharedBlock]
    Address = list[Any]

__all__ = ["Rendezvous", "address_of_state", "create_shared_state", "open_state"]

CHANGE_WORDS_BYTES = 4096
"""Bytes of the words on which waiters sleep."""


def create_shared_state() -> SharedState:
    """Create a lock and change words."""
    return Lock(on_abandon="ignore"), SharedBlock(CHANGE_WORDS_BYTES)


def address_of_state(state: SharedState) -> Address:
    """Return their address, valid as long as a process has them open."""
    lock, words = state
    spot, *rest = lock._location
    return [_address_of_block(spot), rest, _address_of_block(words)]


def _address_of_block(spot: SharedBlock) -> Address:
    chunk, length, family, sender, place = address_of(spot)
    _, fd, family_fd, *_ = sender
    return [chunk, length, family, sender, place, [_os.file_id(fd), _os.file_id(family_fd)]]


def open_state(address: Address) -> SharedState:
    """Open the lock and change words at an address.

    Raises
    ------
    SharedMemoryGone
        If no process has them open.
    """
    lock, rest, words = address
    return Lock._from_block(_open_block(*lock), *rest), _open_block(*words)


def _open_block(
    chunk: Any, length: int, family: Any, sender: Any, place: Any, marks: Any
) -> SharedBlock:
    where = tuple(chunk), length, tuple(family)
    try:
        return open_address(*where, sender, place)
    except SharedMemoryGone:
        host = sender[3]
        for pid, fds in _os.find_processes_with_open_files(marks):
            with contextlib.suppress(SharedMemoryGone):
                return open_address(*where, (pid, *fds, host, ""), place)
        raise


MAX_ADDRESSES = 64
"""The most addresses in the file: one for each set of descriptors of the memory in a process."""
MOST_BYTES = 1 << 20
"""More than so many addresses take."""
EXIT_GRACE_S = 5.0
"""Seconds that a killed process may take to close its files."""


_kept: list[ByteLocks] = []
"""Files that must stay open: closing one would drop this process's locks on it."""


class Rendezvous:
    """The addresses in a directory; a context in which no other process opens it.

    Parameters
    ----------
    path : str
        The directory.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = -1
        self.machine_restarted = False
        """Whether the store was last opened before the machine was started."""

    def __enter__(self) -> Rendezvous:
        self._folder = open_store_folder(self._path)
        try:
            holders = file_trust.open_in(self._folder, HOLDERS, os.O_RDWR, self._path)
        except BaseException:
            os.close(self._folder)
            raise
        self._locks = ByteLocks(Descriptor(holders))
        fcntl.flock(self._locks.fileno(), fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)
        fcntl.flock(self._locks.fileno(), fcntl.LOCK_UN)
        if self._locks.end_with_any_descriptor:
            _kept.append(self._locks)
        else:
            self._locks.close()

    @property
    def is_in_use(self) -> bool:
        """Whether a process has the store open."""
        return self._locks.is_locked(1, to_the_end=True)

    def find_state(self) -> SharedState | None:
        """Return the state that other processes share; None if there are none.

        Raises
        ------
        StoreBusy
            If their memory cannot be opened.
        StoreCorrupt
            If the file with their addresses is damaged.
        """
        end = time.monotonic() + EXIT_GRACE_S
        while self.is_in_use:
            for state in self._reachable():
                return state
            self._check_notes()
            if time.monotonic() > end:
                raise StoreBusy(
                    f"{self._path} is open in {self._users()} whose memory cannot be reached from "
                    "here: of another user, or in another container; connect to its server "
                    "(garrison.connect), or stop it first"
                )
            time.sleep(0.001)  # a dying process closes its files in some order
        self.machine_restarted = self._was_restarted()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NOTES, dir_fd=self._folder)
        return None

    def publish_address(self, state: SharedState) -> None:
        """Publish where this process has the state."""
        # Late, as below: memory without a folder has no file of addresses.
        import json

        mine = json.loads(json.dumps(address_of_state(state)))
        others = [each for each in self._read() if _without_pid(each) != _without_pid(mine)]
        data = b"".join(map(_line_of, [*others[1 - MAX_ADDRESSES :], mine]))
        file_trust.replace_in(self._folder, NOTES, data, self._path)

    def _lines(self) -> list[bytes]:
        try:
            fd = file_trust.open_in(self._folder, NOTES, os.O_RDONLY, self._path)
        except FileNotFoundError:
            return []
        with os.fdopen(fd, "rb") as file:
            return file.read(MOST_BYTES).splitlines(keepends=True)

    def _read(self) -> list[Address]:
        """Return the addresses; lines that are damaged are left out."""
        return _addresses_in(self._lines())

    def _check_notes(self) -> None:
        """Raise if a line of the file is damaged."""
        if any(_address_in(line) is None for line in self._lines()):
            raise StoreCorrupt(
                f"{self._path}/{NOTES} is damaged: it tells how to reach {self._users()} which has "
                "the store open. The data are in another file: end all processes that use the "
                "store; the next one that opens it makes the file anew"
            )

    def _was_restarted(self) -> bool:
        lines = self._lines()
        addresses = _addresses_in(lines)
        return len(addresses) < len(lines) or any(
            not _os.is_same_machine(address[0][3][3]) for address in addresses
        )

    def _reachable(self) -> Iterator[SharedState]:
        """Open one of the addresses, the last one first."""
        for address in self._read()[::-1]:
            with contextlib.suppress(SharedMemoryGone):
                yield open_state(address)

    def _users(self) -> str:
        pids = [
            pid
            for pid, _ in _os.find_processes_with_open_files([_os.file_id(self._locks.fileno())])
        ]
        return f"process {', '.join(map(str, pids))}," if pids else "a process"


def _line_of(address: Address) -> bytes:
    import json

    text = json.dumps(address).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _addresses_in(lines: list[bytes]) -> list[Address]:
    found = map(_address_in, lines)
    return [address for address in found if address is not None]


def _address_in(line: bytes) -> Address | None:
    """Return the address in a line of the file; None if the line is damaged."""
    total, _, text = line.rstrip(b"\n").partition(b" ")
    if total != b"%08x" % zlib.crc32(text) or not line.endswith(b"\n"):
        return None
    import json

    address: Address = json.loads(text)
    return address


def _without_pid(address: Address) -> Any:
    """Return an address without the process."""
    return [(each[0], each[3][1:4], each[4]) for each in (address[0], address[2])]
