"""A server's listening socket, bound before the server process starts: clients connect at once."""

from __future__ import annotations

import os
import secrets

from garrison._typing import TYPE_CHECKING, Any
from garrison.net._address import SocketFile, listen, parse_address
from garrison.net._limits import Limits

if TYPE_CHECKING:
    import socket

__all__ = ["Listener"]


class Listener:
    """A listening socket and its address, in the standard library's form.

    Parameters
    ----------
    address : tuple, str or None
        ``(host, port)``, or the path of a socket in the file system, or an abstract one (which
        begins with a NUL character); by default a unique abstract one.
    """

    def __init__(self, address: Any = None, limits: Limits | None = None) -> None:
        self._file: tuple[SocketFile, int] | None = None
        if address is None:
            address = f"\0garrison-{secrets.token_hex(16)}"
        address = parse_address(address)
        self.socket: socket.socket = listen(address, limits or Limits())
        self.address: Any = self.socket.getsockname()
        if isinstance(self.address, bytes):
            self.address = self.address.decode()
        if isinstance(address, str) and address[:1] != "\0":
            self._file = (SocketFile(address), os.getpid())

    def detach(self) -> socket.socket:
        """Return the socket; its new owner removes the path."""
        return self.socket

    def close(self) -> None:
        """Stop listening in this process."""
        self.socket.close()

    def unlink(self) -> None:
        """Remove the socket's file, if it has one; only after the server has ended."""
        if self._file is not None:
            file, pid = self._file
            if pid == os.getpid():
                self._file = None
                file.unlink()
