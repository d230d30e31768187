"""Secrets in addresses, which reach no report, screen or file name.

Masked are user names and passwords, and values of the query, of the fragment and of parameters in
the path, if their name tells a secret (``token``, ``api_key``) or they look like one (a long
mixture of letters and digits).
"""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["MASK", "mask_line", "mask_text", "mask_url"]

MASK = "***"
_SECRET_NAME = re.compile(
    r"token|key(?!word)|secret|pass(?!age|ive|eng)|pwd|auth(?!ors?$)|(?<![a-z])sig|hmac|credential"
    r"|sess|jwt|bearer|cookie|nonce|ticket|otp|^(?:sid|pin|code)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"(?=\w*\d)(?=\w*[A-Za-z])\w{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE
)
_PLAIN = re.compile(r"[^@?#;]*")
_USER = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?[^/?#]*@")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_PATH_PARAMETER = re.compile(r"(?<=;)([^=;/?#&]+)=([^;/?#]+)")


def mask_url(url: str) -> str:
    """Return a URL, or a bare host with what follows it, without its secrets.

    Examples
    --------
    >>> mask_url("https://me:secret@example.com/a?page=2&token=0123")
    'https://***@example.com/a?page=2&token=***'
    """
    if _PLAIN.fullmatch(url):
        return url
    rest, hash_, fragment = _USER.sub(rf"\1{MASK}@", url).partition("#")
    address, question, query = rest.partition("?")
    address = _PATH_PARAMETER.sub(_mask_match, address)
    return f"{address}{question}{_mask_fields(query)}{hash_}{_mask_fields(fragment)}"


def mask_line(text: str) -> str:
    """Return a line that may be no URL without its secrets: all before the last ``@`` goes."""
    scheme, mark, rest = text.rpartition("://")
    before, _, after = rest.rpartition("@")
    return mask_url(f"{scheme}{mark}{MASK}@{after}" if before else text)


def mask_text(text: str) -> str:
    """Return a message without the secrets of the URLs in it."""
    return _URL.sub(lambda match: mask_url(match[0]), text)


def _mask_fields(query: str) -> str:
    return "".join(map(_mask_field, re.split("([&;])", query)))


def _mask_field(field: str) -> str:
    name, equals, value = field.partition("=")
    if not equals:
        return MASK if _looks_secret(unquote(field)) else field
    return f"{name}={_mask_value(name, value)}"


def _mask_match(match: re.Match[str]) -> str:
    return f"{match[1]}={_mask_value(match[1], match[2])}"


def _mask_value(name: str, value: str) -> str:
    if value and (_SECRET_NAME.search(unquote(name)) or _looks_secret(unquote(value))):
        return MASK
    return value


def _looks_secret(value: str) -> bool:
    return bool(_SECRET_VALUE.search(value)) or mask_text(value) != value
