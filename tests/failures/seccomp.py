"""Make system calls fail in this process, from now on: a filter, for good."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from .subject import Missing

NUMBERS = {
    "fallocate": {"x86_64": 285, "aarch64": 47},
    "memfd_create": {"x86_64": 319, "aarch64": 279},
    "pidfd_open": {"x86_64": 434, "aarch64": 434},
    "pidfd_getfd": {"x86_64": 438, "aarch64": 438},
    "futex_waitv": {"x86_64": 449, "aarch64": 449},
    "eventfd2": {"x86_64": 290, "aarch64": 19},
    "sched_getaffinity": {"x86_64": 204, "aarch64": 123},
    "fcntl": {"x86_64": 72, "aarch64": 25},
    "copy_file_range": {"x86_64": 326, "aarch64": 285},
    "prctl": {"x86_64": 157, "aarch64": 167},
    "getrandom": {"x86_64": 318, "aarch64": 278},
    "process_vm_readv": {"x86_64": 310, "aarch64": 270},
    "statx": {"x86_64": 332, "aarch64": 291},
    "clone3": {"x86_64": 435, "aarch64": 435},
    "close_range": {"x86_64": 436, "aarch64": 436},
    "waitid": {"x86_64": 247, "aarch64": 95},
}
"""The numbers of calls that an old kernel does not have, or a sandbox refuses."""
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def refuse_fallocate(error: int) -> None:
    """Let every later ``fallocate`` of this thread and of its children fail with `error`."""
    refuse("fallocate", error)


def refuse(name: str, error: int, commands: tuple[int, ...] = ()) -> None:
    """Let every later call of this name in this thread and its children fail with `error`.

    With `commands` only those whose second argument is one of them.
    """
    machine = platform.machine()
    if machine not in NUMBERS[name]:
        message = f"the number of {name} on {machine}"
        raise Missing(message)
    program = _program(NUMBERS[name][machine], error, commands)
    address = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(address))
    )
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, None)
    _prctl(_PR_SET_SECCOMP, _MODE_FILTER, header)


_NUMBER_AT, _SECOND_AT = 0, 24
"""Where the number of the call and the low half of its second argument are."""


def _program(number: int, error: int, commands: tuple[int, ...]) -> bytes:
    steps = [
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
        (_JUMP_EQUAL, 0, 1 + 2 * len(commands), number),
    ]
    refused = (_RETURN, 0, 0, _ERRNO | error)
    if commands:
        steps.append((_LOAD_WORD, 0, 0, _SECOND_AT))
        for command in commands:
            steps += [(_JUMP_EQUAL, 0, 1, command), refused]
    else:
        steps.append(refused)
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _prctl(option: int, value: int, pointer: ctypes.Array[ctypes.c_char] | None) -> None:
    zero = ctypes.c_ulong(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), pointer, zero, zero) != 0:
        message = f"system-call filters (seccomp): {os.strerror(ctypes.get_errno())}"
        raise Missing(message)
