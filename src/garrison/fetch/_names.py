"""The name of a page: from its site's key alone, safe in any folder, never shared.

========================================= ====================================================
key                                       name
========================================= ====================================================
``www.qq.com`` (a bare host)              ``www.qq.com.html``
``https://example.com/a/logo.png``        ``example.com+a+logo.png``
``https://example.com/a_b?x=1&y=2``       ``example.com+a_b,x=1,y=2~.html``
``http://example.com:81/``                ``http+example.com,81+~.html``
``https://example.com/a/B.png``           ``example.com+a+b.png~`` hash ``.png``
========================================= ====================================================

A readable name can be read back: ``+`` stands for a slash, the first ``,`` after a slash for the
question mark, ``~.html`` for an ending that the path does not have. So no two keys share one. All
other keys have a hash, also where only case distinguishes them. Secrets are in the hash only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from garrison.fetch._masking import MASK, mask_url

_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,98}[a-z0-9])?")
_READABLE = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9][a-z0-9.-]*)(?::(?P<port>\d+))?"
    r"(?P<path>/[a-z0-9._=/-]*)(?:\?(?P<query>[a-z0-9._=&-]+))?"
)
_ENDING = re.compile(r"/[^/]*[^/.]\.[a-z0-9]{1,8}")
_EXTENSION = re.compile(r"[^/]/(?:.*/)?[^/?]+(\.[a-z0-9]{1,8})(?:\?|$)", re.IGNORECASE)
_LONGEST_READABLE = 120
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
    >>> page_name("https://example.com/articles/2024/index.html")
    'example.com+articles+2024+index.html'
    >>> page_name("https://www.qq.com/Articles?id=3")
    'www.qq.com+articles_id_3~opeel5l7ywc3smfs.html'
    """
    name = f"{key}.html" if _PLAIN.fullmatch(key) else _readable_name(key)
    if name and len(name) <= _LONGEST_READABLE and not _RESERVED.fullmatch(name):
        return name
    return f"{_slug(key)}~{_digest(key)}{_extension(key)}"


def _readable_name(key: str) -> str:
    """Return the name from which a key can be read back; empty if there is none."""
    match = _READABLE.fullmatch(key)
    if match is None or match["host"] == "http" or mask_url(key) != key:
        return ""
    scheme = "http+" if match["scheme"] == "http" else ""
    port = f",{match['port']}" if match["port"] else ""
    path = match["path"].replace("/", "+")
    query = f",{match['query'].replace('&', ',')}" if match["query"] else ""
    has_ending = not query and _ENDING.fullmatch(match["path"][match["path"].rindex("/") :])
    return f"{scheme}{match['host']}{port}{path}{query}{'' if has_ending else '~.html'}"


def _slug(key: str) -> str:
    masked = mask_url(key)
    address = masked.partition("://")[2] or masked
    host_on = address.removeprefix(f"{MASK}@").lower().replace("/", "+")
    slug = re.sub(r"[^a-z0-9.+-]+", "_", host_on).strip("._+-")[:_LONGEST_SLUG]
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
