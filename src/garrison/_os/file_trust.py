"""Which files and folders of a user's path are trusted: those that no other user can change.

A folder or file is trusted if it belongs to this user or to root, and only its owner may write to
it. The group may, if it is the user's private one, as on systems with a umask of 002. A sticky
folder, such as ``/tmp``, is not trusted: others can put a link there, under a name to be used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from garrison._typing import TYPE_CHECKING
from garrison.errors import UntrustedFile

if TYPE_CHECKING:
    import pwd
    from collections.abc import Callable

__all__ = [
    "check_folder",
    "check_link",
    "check_owner",
    "check_plain_file",
    "check_status",
    "file_kind",
    "open_folder",
    "open_in",
    "replace_in",
]

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
_ROOT = 0
_ACL = "system.posix_acl_access"


def file_kind(mode: int) -> str:
    """Describe the kind of a file, with its article."""
    return _KINDS.get(stat.S_IFMT(mode), "something")


def open_folder(path: str) -> int:
    """Open a folder that no other user can change.

    Raises
    ------
    UntrustedFile
        If one can; the message names the remedy.
    """
    check_link(path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return _checked(fd, path, check_status)


def _checked(fd: int, path: str, check: Callable[[os.stat_result, str, int], None]) -> int:
    """Return a descriptor if its file passes a check, else close it."""
    try:
        check(os.fstat(fd), path, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_folder(path: str) -> None:
    """Raise `UntrustedFile` if another user can change a folder."""
    os.close(open_folder(path))


def check_link(path: str) -> None:
    """Raise `UntrustedFile` if a path is another user's symbolic link."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode) and not _is_trusted_owner(status.st_uid):
        raise _untrusted(
            f"is a symbolic link of user {status.st_uid}: give the path that is meant", path
        )


def check_status(status: os.stat_result, path: str, place: int | str) -> None:
    """Raise `UntrustedFile` if another user can change a file or folder.

    Parameters
    ----------
    status : os.stat_result
        Of the open file.
    path : str
        Its name, for the message.
    place : int or str
        Its descriptor or path, for its access control list.
    """
    kind = _noun(status.st_mode)
    check_owner(status, path)
    if status.st_mode & stat.S_ISVTX and status.st_mode & stat.S_IWOTH:
        raise _untrusted("every user may make files here: use a folder of your own in it", path)
    if status.st_mode & stat.S_IWOTH:
        raise _untrusted(
            f"every user may write to this {kind}: take that away (chmod go-w), or use another "
            f"{kind}",
            path,
        )
    if status.st_mode & stat.S_IWGRP and not _is_private_group(status, place):
        raise _untrusted(
            f"the group {status.st_gid} may write to this {kind}, and it is not the private group "
            f"of one user: take that away (chmod g-w), or use another {kind}",
            path,
        )


def check_owner(status: os.stat_result, path: str) -> None:
    """Raise `UntrustedFile` if a file or folder belongs to another user."""
    if not _is_trusted_owner(status.st_uid):
        raise _untrusted(
            f"belongs to user {status.st_uid}, not to this one ({os.geteuid()}): use a "
            f"{_noun(status.st_mode)} of your own, or change its owner (chown)",
            path,
        )


def _noun(mode: int) -> str:
    return "folder" if stat.S_ISDIR(mode) else "file"


def open_in(folder: int, name: str, flags: int, path: str) -> int:
    """Open a file in an open, trusted folder, or make it; follow no link.

    Raises
    ------
    UntrustedFile
        If it is a link, no plain file, or another user can change it.
    """
    where = os.path.join(path, name)  # noqa: PTH118 - strings, as in all of this package
    try:
        fd = os.open(
            name,
            flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            0o600,
            dir_fd=folder,
        )
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            raise _no_plain_file(mode, where) from None
        error.filename = where
        raise
    return _checked(fd, where, check_plain_file)


def check_plain_file(status: os.stat_result, path: str, place: int | str) -> None:
    """Raise `UntrustedFile` if it is no plain file, or another user can change it."""
    if not stat.S_ISREG(status.st_mode):
        raise _no_plain_file(status.st_mode, path)
    check_status(status, path, place)


def replace_in(folder: int, name: str, data: bytes, path: str) -> None:
    """Replace the contents of a file in an open, trusted folder, in one step."""
    new = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)  # of a process that was killed here
    fd = open_in(folder, new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, path)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)


def _no_plain_file(mode: int, where: str) -> UntrustedFile:
    """Return the error for a link, a FIFO and so on in the place of a file."""
    return _untrusted(
        f"is {file_kind(mode)}, but must be a plain file: remove it, or use another folder",
        where,
    )


def _untrusted(text: str, path: str) -> UntrustedFile:
    return UntrustedFile(errno.EPERM, text, path)


def _is_trusted_owner(uid: int) -> bool:
    return uid in {os.geteuid(), _ROOT}


def _is_private_group(status: os.stat_result, place: int | str) -> bool:
    """Whether a file's group has one member, its owner."""
    # With an access control list the bits of the group are a mask of other users too.
    with contextlib.suppress(OSError):
        os.getxattr(place, _ACL)
        return False
    import grp
    import pwd

    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    # Large directories of users do not list them all; the name tells a private group there.
    return (
        group.gr_name == owner.pw_name
        and set(group.gr_mem) <= {owner.pw_name}
        and all(user.pw_uid == owner.pw_uid for user in _primary_members(group.gr_gid))
    )


def _primary_members(gid: int) -> list[pwd.struct_passwd]:
    import pwd

    return [user for user in pwd.getpwall() if user.pw_gid == gid]
