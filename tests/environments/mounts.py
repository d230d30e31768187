"""Mount namespaces in which a program finds another ``/proc``, ``/dev/shm`` or ``/tmp``."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

NEW_MOUNTS = 0x20000
READ_ONLY, REMOUNT, PRIVATE_BELOW = 1, 32, 1 << 18 | 1 << 14

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot, setuid, mounts")

libc = ctypes.CDLL(None, use_errno=True)


def _check(answer: int) -> None:
    if answer:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def room(*mounts: tuple[str, str, int, str]) -> Callable[[], None]:
    """Return what a child does to see these mounts: place, kind, flags, options."""

    def enter() -> None:
        _check(libc.unshare(NEW_MOUNTS))
        _check(libc.mount(b"none", b"/", None, PRIVATE_BELOW, None))
        for place, kind, flags, options in mounts:
            _check(
                libc.mount(b"none", place.encode(), kind.encode(), flags, options.encode() or None)
            )

    return enter


def can_enter(enter: Callable[[], None]) -> bool:
    """Whether this machine allows it."""
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(OSError):
            enter()
            code = 0
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0
