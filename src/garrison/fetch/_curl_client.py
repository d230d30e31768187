"""Transfers with libcurl: many at once in one thread, connections used again.

libcurl names the sockets it waits for, and its deadline; one epoll waits for them and for
the lane's own connection. An easy handle is set up once and serves many transfers.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from pathlib import Path

import pycurl

from garrison._os import file_trust
from garrison._typing import Any
from garrison.fetch._masking import mask_text, mask_url
from garrison.fetch._messages import Job, Outcome, Settings
from garrison.fetch._pages import PartFile
from garrison.fetch._redirect_guard import RedirectGuard, has_proxies
from garrison.fetch._sites import LONGEST_LINE

_READ_BUFFER = 1 << 17
_MOST_REDIRECTS = 20
_FIRST_ERROR_STATUS = 400
_TOO_LARGE = 63
_ABORTED = 42
_SIZE_DOWNLOAD = getattr(pycurl, "SIZE_DOWNLOAD_T", pycurl.SIZE_DOWNLOAD)
# A page of this size may be decompressed from anything.
_FREE_SIZE = 1_000_000
# What libcurl may receive in one turn.
_UNTOLD = 32 * _READ_BUFFER
_TO_EPOLL = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
_HTTP_NAMES = {
    pycurl.CURL_HTTP_VERSION_1_0: "1.0",
    pycurl.CURL_HTTP_VERSION_1_1: "1.1",
    pycurl.CURL_HTTP_VERSION_2_0: "2",
    30: "3",
}
# Where systems keep the certificates they trust; a libcurl that came in a wheel may
# look only where the machine that built it has them.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
)


@cache
def trusted_certificates() -> str | None:
    """Return the file of trusted certificates, as curl's own variables or the system have it."""
    for variable in ("CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if os.environ.get(variable):
            return os.environ[variable]
    return next((bundle for bundle in _BUNDLES if Path(bundle).is_file()), None)


class CurlClient:
    """All transfers of one lane.

    Parameters
    ----------
    settings
        What they have in common.
    lane
        The lane's number, for the names of its parts.
    line
        A descriptor to wait for besides.
    """

    def __init__(self, settings: Settings, lane: int, line: int) -> None:
        self._settings = settings
        self._prefix = f".garrison-{settings.run}-{lane}"
        self._number_of_parts = 0
        self._folder = file_trust.open_folder(settings.folder)
        self._line = line
        self._epoll = select.epoll()
        self._epoll.register(line, select.EPOLLIN)
        self._watched: set[int] = set()
        self._deadline: float | None = None
        self._idle: list[Transfer] = []
        self._running: dict[pycurl.Curl, Transfer] = {}
        self._large: set[Transfer] = set()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    def start(self, job: Job) -> None:
        """Begin a transfer."""
        transfer = self._idle.pop() if self._idle else Transfer(self._settings, self._large)
        self._number_of_parts += 1
        name = f"{self._prefix}-{self._number_of_parts}.part"
        transfer.begin(job, PartFile(self._folder, name, self._settings.max_bytes))
        self._running[transfer.easy] = transfer
        self._multi.add_handle(transfer.easy)

    def wait(self) -> bool:
        """Wait and work until something has happened; True when the line is readable."""
        readable = False
        timeout = self._seconds_left()
        for fd, events in self._epoll.poll(timeout):
            if fd == self._line:
                readable = True
            else:
                self._multi.socket_action(fd, _to_curl(events))
        if self._seconds_left() == 0:
            self._deadline = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for transfer in self._large:
            transfer.note_received()
        return readable

    def collect(self) -> list[Outcome]:
        """Return the outcomes of finished transfers."""
        outcomes: list[Outcome] = []
        more = 1
        while more:
            more, well, badly = self._multi.info_read()
            outcomes.extend(self._end(easy, 0, "") for easy in well)
            outcomes.extend(self._end(easy, code, text) for easy, code, text in badly)
        return outcomes

    def close(self) -> None:
        """Cancel running transfers, and remove their parts."""
        for easy, transfer in self._running.items():
            self._multi.remove_handle(easy)
            transfer.part.discard()
            easy.close()
        for transfer in self._idle:
            transfer.easy.close()
        self._multi.close()
        self._epoll.close()
        os.close(self._folder)

    def _end(self, easy: pycurl.Curl, code: int, text: str) -> Outcome:
        self._multi.remove_handle(easy)
        transfer = self._running.pop(easy)
        self._idle.append(transfer)
        return transfer.end(code, text)

    def _watch(self, what: int, fd: int, _multi: object, _data: object) -> None:
        """Wait for a socket as libcurl asks; libcurl calls this."""
        if what == pycurl.POLL_REMOVE:
            if fd in self._watched:
                self._watched.remove(fd)
                self._epoll.unregister(fd)
        elif fd in self._watched:
            self._epoll.modify(fd, _TO_EPOLL[what])
        else:
            self._watched.add(fd)
            self._epoll.register(fd, _TO_EPOLL[what])

    def _set_timer(self, milliseconds: int) -> None:
        """Wait no longer than libcurl asks; libcurl calls this."""
        self._deadline = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


class Transfer:
    """One transfer at a time, on an easy handle that stays.

    Parameters
    ----------
    settings
        What all transfers have in common.
    large
        The transfers with a large page, which are to note what they have received.
    """

    def __init__(self, settings: Settings, large: set[Transfer]) -> None:
        self._settings = settings
        self._large = large
        self.easy = pycurl.Curl()
        self.part: PartFile
        self._job: Job
        self._fault = ""
        self._received = 0
        self._guard = RedirectGuard()
        _set_up(self.easy, settings, self._take)
        if not settings.allow_private_redirects:
            self._guard_redirects()

    def begin(self, job: Job, part: PartFile) -> None:
        """Get ready for a job; its page goes into ``part``."""
        self._job = job
        self.part = part
        self._fault = ""
        self._received = 0
        self._guard.begin(job.url)
        self.easy.setopt(pycurl.URL, job.url)
        self.easy.setopt(pycurl.TIMEOUT_MS, _milliseconds(job.seconds))
        self.easy.setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(job.connect_seconds))
        self.easy.setopt(pycurl.COOKIELIST, "ALL")

    def end(self, code: int, text: str) -> Outcome:
        """Return the outcome, and leave a complete part or none."""
        status = self.easy.getinfo(pycurl.RESPONSE_CODE)
        self.note_received()
        self._large.discard(self)
        reason = self._reason(code, text, status)
        code = _ABORTED if code and self._guard.refused else code
        name = ""
        if not reason:
            try:
                name = self.part.finish()
            except OSError as error:
                reason = f"cannot be written: {error.strerror}"
        if reason:
            self.part.discard()
        return self._outcome(status, code, name, reason)

    def _outcome(self, status: int, code: int, name: str, reason: str) -> Outcome:
        ask = self.easy.getinfo
        return Outcome(
            site=self._job.site,
            part=name,
            url=mask_url(ask(pycurl.EFFECTIVE_URL))[:LONGEST_LINE],
            status=status,
            type=(ask(pycurl.CONTENT_TYPE) or "")[:200],
            size=self.part.size if name else 0,
            seconds=round(ask(pycurl.TOTAL_TIME), 6),
            http=_HTTP_NAMES.get(ask(pycurl.INFO_HTTP_VERSION), ""),
            redirects=ask(pycurl.REDIRECT_COUNT),
            code=code,
            reason=reason,
            linked=bool(ask(pycurl.APPCONNECT_TIME)),
            retry_after=_retry_after(self.easy) if reason and status else 0,
        )

    def _take(self, data: bytes) -> int:
        """Keep the next bytes of the page; libcurl calls this."""
        try:
            if not self.part.add(data):
                self._fault = self._too_large()
            elif self.part.size > _FREE_SIZE:
                self._large.add(self)
                self._fault = self._inflated(exact=False)
            if not self._fault:
                return len(data)
        except OSError as error:
            self._fault = f"cannot be written: {error.strerror}"
        return -1

    def _too_large(self) -> str:
        return f"more than --max-bytes {self._settings.max_bytes}"

    def _inflated(self, *, exact: bool) -> str:
        """Return what is wrong with the size of a page that came compressed; empty if nothing is.

        While it comes, libcurl has received more than was noted.
        """
        size, received = self.part.size, self._received
        largest, ratio = self._settings.max_decompressed, self._settings.max_ratio
        if not exact and size <= 2 * received + _UNTOLD:
            return ""
        if size > _FREE_SIZE and size > ratio * (received + (0 if exact else _READ_BUFFER)):
            return f"decompressed to more than --max-ratio {ratio} times its size"
        if size > max(largest, received):
            return f"decompressed to more than --max-decompressed {largest}"
        return ""

    def note_received(self) -> None:
        """Note how much has come. No callback of libcurl may ask that."""
        self._received = int(self.easy.getinfo(_SIZE_DOWNLOAD))

    # -- redirects --------------------------------------------------------------------------------

    def _guard_redirects(self) -> None:
        self.easy.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        self.easy.setopt(pycurl.PREREQFUNCTION, self._check_request)
        if has_proxies():
            self.easy.setopt(pycurl.HEADERFUNCTION, self._check_header)

    def _open_socket(self, _purpose: int, address: Any) -> Any:
        """Return a socket for a connection, if it may be made; libcurl calls this."""
        family, kind, protocol, where = address
        if not self._guard.may_connect(*where[:2]):
            return pycurl.SOCKET_BAD
        return _BorrowedSocket(family, kind, protocol)

    def _check_request(self, ip: str, _own_ip: str, port: int, _own_port: int) -> int:
        """Whether a request may be sent; libcurl calls this."""
        allowed = self._guard.may_request(ip, port)
        return int(pycurl.PREREQFUNC_OK if allowed else pycurl.PREREQFUNC_ABORT)

    def _check_header(self, line: bytes) -> int | None:
        """Look where a redirect leads that a proxy would follow; libcurl calls this."""
        name, _, value = line.partition(b":")
        if name.lower() != b"location" or self._guard.may_redirect(value.strip().decode("latin-1")):
            return None
        return -1

    def _reason(self, code: int, text: str, status: int) -> str:
        """Return why there is no page; empty when there is one."""
        if status >= _FIRST_ERROR_STATUS:
            return _named(status)
        if self._fault:
            return self._fault
        if code and self._guard.refused:
            return _refusal(self._guard.refused)
        if code == _TOO_LARGE:
            return self._too_large()
        if code:
            return mask_text(text or self.easy.errstr() or f"libcurl error {code}")[:500]
        nowhere = f"{_named(status)}, without a place to go" if status // 100 == 3 else ""  # noqa: PLR2004  # 3xx
        return nowhere or self._inflated(exact=True)


class _BorrowedSocket(socket.socket):
    """A socket of which pycurl makes a duplicate; this one closes itself."""

    def __del__(self) -> None:
        self.close()


def _set_up(easy: pycurl.Curl, settings: Settings, take: Callable[[bytes], int]) -> None:
    """Set what is the same for every transfer."""
    easy.setopt(pycurl.WRITEFUNCTION, take)
    easy.setopt(pycurl.NOSIGNAL, 1)
    easy.setopt(pycurl.USERAGENT, settings.agent)
    easy.setopt(pycurl.ACCEPT_ENCODING, "")
    easy.setopt(pycurl.COOKIEFILE, "")
    easy.setopt(pycurl.FOLLOWLOCATION, 1)
    easy.setopt(pycurl.MAXREDIRS, _MOST_REDIRECTS)
    easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    easy.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    easy.setopt(pycurl.MAXFILESIZE_LARGE, settings.max_bytes)
    easy.setopt(pycurl.BUFFERSIZE, _READ_BUFFER)
    if pycurl.version_info()[4] & pycurl.VERSION_HTTP2:
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
    if settings.connect_to:
        easy.setopt(pycurl.CONNECT_TO, list(settings.connect_to))
    certificates = trusted_certificates()
    if certificates:
        easy.setopt(pycurl.CAINFO, certificates)


def _refusal(target: str) -> str:
    return (
        f"redirected to {target}, which is no public address: to follow it, give "
        "--allow-private-redirects"
    )


def _to_curl(events: int) -> int:
    readable = pycurl.CSELECT_IN if events & (select.EPOLLIN | select.EPOLLHUP) else 0
    writable = pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
    failed = pycurl.CSELECT_ERR if events & select.EPOLLERR else 0
    return int(readable | writable | failed)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _retry_after(easy: pycurl.Curl) -> int:
    # Since libcurl 7.66.
    option = getattr(pycurl, "RETRY_AFTER", None)
    return int(easy.getinfo(option)) if option is not None else 0
