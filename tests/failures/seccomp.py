"""Make ``fallocate`` fail in this process, from now on: a filter of system calls, for good."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from .subject import Missing

_FALLOCATE = {"x86_64": 285, "aarch64": 47}
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def refuse_fallocate(error: int) -> None:
    """Let every later ``fallocate`` of this thread and of its children fail with `error`."""
    machine = platform.machine()
    if machine not in _FALLOCATE:
        message = f"the number of fallocate on {machine}"
        raise Missing(message)
    program = _program(_FALLOCATE[machine], error)
    address = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(address))
    )
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, None)
    _prctl(_PR_SET_SECCOMP, _MODE_FILTER, header)


def _program(number: int, error: int) -> bytes:
    steps = [
        (_LOAD_WORD, 0, 0, 0),
        (_JUMP_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, _ERRNO | error),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _prctl(option: int, value: int, pointer: ctypes.Array[ctypes.c_char] | None) -> None:
    zero = ctypes.c_ulong(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), pointer, zero, zero) != 0:
        message = f"system-call filters (seccomp): {os.strerror(ctypes.get_errno())}"
        raise Missing(message)
