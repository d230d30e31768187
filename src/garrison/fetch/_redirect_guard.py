"""Redirects from a public host to this machine, its network or another private one are refused.

It sees the address of each connection, after names are resolved, and of each request, since a
connection may be one that is used again. It does no I/O. Of what a proxy connects to it sees only
the redirect's text, so that a name for a private address passes: the proxy has to refuse that.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

__all__ = ["RedirectGuard", "has_proxies", "is_private_name", "is_public", "uses_proxy"]

_LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal")
_PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RedirectGuard:
    """Decides for one transfer at a time, from its first request to its last."""

    def __init__(self) -> None:
        self.begin("")

    def begin(self, url: str) -> None:
        """Start with a URL that the user has named; it may be private."""
        self._url = url
        self._is_proxied = uses_proxy(url)
        self._first: tuple[str, int] | None = None
        self._was_public = False
        self.refused = ""

    def may_connect(self, ip: str, port: int) -> bool:
        """Whether a connection may be made; before the first request any may."""
        return self._first is None or self._allows(ip, port)

    def may_request(self, ip: str, port: int) -> bool:
        """Whether the next request may be sent over a connection to this address."""
        if self._first is None:
            self._first = ip, port
            self._was_public = is_public(ip) or self._is_named_public()
            return True
        allowed = self._allows(ip, port)
        self._was_public |= is_public(ip)
        return allowed

    def may_redirect(self, location: str) -> bool:
        """Whether a proxy may be asked for the target of a redirect."""
        if not self._is_proxied:
            return True
        try:
            self._url = urljoin(self._url, location)
            host = urlsplit(self._url).hostname or ""
        except ValueError:  # libcurl will say that it is no URL
            return True
        if self._was_public and is_private_name(host):
            self.refused = host
            return False
        return True

    def _is_named_public(self) -> bool:
        """Whether a proxy is asked for something that is not plainly private."""
        return self._is_proxied and not is_private_name(urlsplit(self._url).hostname or "")

    def _allows(self, ip: str, port: int) -> bool:
        if is_public(ip) or not self._was_public:
            return True
        if self._is_proxied and (ip, port) == self._first:
            return True
        self.refused = ip
        return False


@lru_cache(maxsize=4096)
def is_public(ip: str) -> bool:
    """Whether an address is one of the Internet; not of loopback, a link, or a private network."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:  # the path of a socket, or nothing
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_public(str(inner))
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for."""
    if address in _NAT64 or int(address) >> 32 == 0:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def is_private_name(host: str) -> bool:
    """Whether a host is a private address, in any spelling, or a name of this machine."""
    host = host.rstrip(".").lower()
    if host in _LOCAL_NAMES or host.endswith(_LOCAL_NAMES[1:]):
        return True
    try:
        # Also as 127.1 or 0x7f000001.
        return not is_public(host if ":" in host else socket.inet_ntoa(socket.inet_aton(host)))
    except OSError:
        return False


def has_proxies() -> bool:
    """Whether the environment names any proxy."""
    return any(map(os.environ.get, _PROXIES))


def uses_proxy(url: str) -> bool:
    """Whether the environment names a proxy for a URL, as libcurl reads it."""
    if not any(map(os.environ.get, _PROXIES)):
        return False
    parts = urlsplit(url)
    names = [f"{parts.scheme}_proxy", "all_proxy", "ALL_PROXY"]
    if parts.scheme == "https":
        names.append("HTTPS_PROXY")
    if not any(os.environ.get(name) for name in names):
        return False
    exceptions = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    host = parts.hostname or ""
    suffixes = [each.strip().strip(".") for each in exceptions.replace(",", " ").split()]
    return not any(each == "*" or f".{host}".endswith(f".{each}") for each in suffixes if each)
