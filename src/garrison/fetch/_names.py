"""The name of a page: from its site's key alone, safe in any folder, never shared.

====================================== ============================================
key                                    name
====================================== ============================================
``www.qq.com`` (a bare host)           ``www.qq.com.html``
``https://example.com/a/B.png?x=1``    ``example.com_a_b.png_x_1~`` hash ``.png``
====================================== ============================================

A plain name never holds a ``~`` and every other one does, so the two kinds do not
meet. A hash distinguishes similar keys, also where case does not count. Secrets are in the
hash only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from garrison.fetch._masking import MASK, mask_url

_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,98}[a-z0-9])?")
_EXTENSION = re.compile(r"[^/]/(?:.*/)?[^/?]+(\.[a-z0-9]{1,8})(?:\?|$)", re.IGNORECASE)
_LONGEST_SLUG = 80
_HASH_LETTERS = 16
_ROUNDS = 100_000
# Device names of Windows, and the name people give to the report beside the pages.
_RESERVED = re.compile(r"(?:report|con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")


def page_name(key: str) -> str:
    """Return the file name of a site's page.

    Parameters
    ----------
    key
        The site's key (`Site.key`).

    Examples
    --------
    >>> page_name("www.qq.com")
    'www.qq.com.html'
    >>> page_name("https://www.qq.com/../../etc/passwd")
    'www.qq.com_.._.._etc_passwd~4zjvfmjsxmx6bk5s.html'
    """
    if _PLAIN.fullmatch(key) and not _RESERVED.fullmatch(key):
        return f"{key}.html"
    return f"{_slug(key)}~{_digest(key)}{_extension(key)}"


def _slug(key: str) -> str:
    masked = mask_url(key)
    address = masked.partition("://")[2] or masked
    host_on = address.removeprefix(f"{MASK}@")
    slug = re.sub(r"[^a-z0-9.-]+", "_", host_on.lower()).strip("._-")[:_LONGEST_SLUG]
    return f"page_{slug}" if _RESERVED.fullmatch(slug) else slug or "page"


def _digest(key: str) -> str:
    scheme, mark, address = key.partition("://")
    user, at, rest = address.partition("/")[0].rpartition("@")
    if at:
        # A short password could be found by trying: its part of the hash is slow to make.
        host = rest.partition("?")[0]
        key = f"{scheme}{mark}{_stretched(user, host)}@{address[len(user) + 1 :]}"
    digest = base64.b32encode(hashlib.sha256(key.encode()).digest())
    return digest.decode().lower()[:_HASH_LETTERS]


@lru_cache(maxsize=1024)
def _stretched(user: str, host: str) -> str:
    salt = f"garrison fetch {host}".encode()
    return hashlib.pbkdf2_hmac("sha256", user.encode(), salt, _ROUNDS).hex()


def _extension(key: str) -> str:
    match = _EXTENSION.search(key.partition("://")[2] or key)
    return match[1].lower() if match else ".html"
