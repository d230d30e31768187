"""The directory of pages: parts, which are being written, and pages, which are complete.

A lane writes a part to an unnamed file, which vanishes if the lane dies. When the part is
complete, the lane names it ``.garrison-RUN-LANE-N.part``. The parent renames it to the page's
name, then writes the report's line. So a named page is complete whichever process is killed.
Parts that were not renamed are removed at the end of the run or at the start of the next.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from pathlib import Path

from garrison._os import file_trust
from garrison.errors import GarrisonError

_PART = re.compile(r"\.garrison-[0-9a-f]+-\d+-\d+\.part")
_SPILL = 1 << 20
# A file system, or a kernel's old layer over it, that has no files without names.
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}


class DirectoryInUse(GarrisonError, OSError):
    """Another run is writing into this folder."""


class PageDirectory:
    """The parent's side: one run at a time renames and removes parts here.

    Parameters
    ----------
    path
        The folder; it is made where there is none.

    Raises
    ------
    DirectoryInUse
        When another run has it.
    UntrustedFile
        When another user can change it.
    OSError
        When it cannot be made or written to.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # The next run would refuse a folder that a group may write to, as with a umask of 002.
        Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
        self._fd = file_trust.open_folder(path)
        try:
            self._claim()
        except OSError:
            os.close(self._fd)
            raise
        self.sweep()

    def close(self) -> None:
        """Remove parts, and unlock the directory."""
        self.sweep()
        os.close(self._fd)

    def _claim(self) -> None:
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.path)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryInUse(
                error.errno, "another garrison fetch is writing there", self.path
            ) from error
        except OSError:
            # Some network file systems lock no directories: then the user must take care.
            return

    def file(self, name: str) -> str:
        """Return the path of a page."""
        return os.path.join(self.path, name)  # noqa: PTH118  # as the user wrote the folder

    def save_part(self, part: str, data: bytes) -> None:
        """Write a part that was received elsewhere."""
        file = PartFile(self._fd, part, len(data))
        try:
            file.add(data)
            file.finish()
        except OSError:
            file.discard()
            raise

    def commit(self, part: str, name: str) -> None:
        """Rename a complete part to its page."""
        os.rename(part, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def size(self, name: str) -> int | None:
        """Return the bytes of a page, or None when it is not there; a link is no page."""
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def sweep(self) -> None:
        """Remove every part. No lane may be writing."""
        for name in os.listdir(self._fd):
            if _PART.fullmatch(name):
                os.unlink(name, dir_fd=self._fd)


class PartFile:
    """The lane's side: one page while it comes in; in memory while it is small.

    Parameters
    ----------
    folder_fd
        The open folder.
    name
        The file to write; it must not be there.
    limit
        The most bytes to take.
    """

    __slots__ = ("_chunks", "_fd", "_folder_fd", "_held", "_limit", "_named", "name", "size")

    def __init__(self, folder_fd: int, name: str, limit: int) -> None:
        self._folder_fd = folder_fd
        self.name = name
        self._limit = limit
        self.size = 0
        self._chunks: list[bytes] = []
        self._held = 0
        self._fd = -1
        self._named = False

    def add(self, data: bytes) -> bool:
        """Append bytes; False when the page exceeds the limit."""
        self.size += len(data)
        if self.size > self._limit:
            return False
        self._chunks.append(data)
        self._held += len(data)
        if self._held >= _SPILL:
            self._spill()
        return True

    def finish(self) -> str:
        """Write the buffered bytes, and return the name of the complete part."""
        self._spill()
        if not self._named:
            os.link(f"/proc/self/fd/{self._fd}", self.name, dst_dir_fd=self._folder_fd)
            self._named = True
        self._close()
        return self.name

    def discard(self) -> None:
        """Drop the page, and remove its file."""
        self._chunks.clear()
        self._close()
        if self._named:
            os.unlink(self.name, dir_fd=self._folder_fd)

    def _spill(self) -> None:
        if self._fd < 0:
            self._open()
        rest = memoryview(b"".join(self._chunks))
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._chunks.clear()
        self._held = 0

    def _open(self) -> None:
        # Unnamed, also because that takes no lock on the folder: several lanes create at once.
        flags = os.O_WRONLY | os.O_CLOEXEC
        try:
            self._fd = os.open(".", flags | os.O_TMPFILE, 0o666, dir_fd=self._folder_fd)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            new = flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._fd = os.open(self.name, new, 0o666, dir_fd=self._folder_fd)
            self._named = True

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
