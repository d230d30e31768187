"""The names of pages: safe in the folder, different for different sites, always the same."""

from __future__ import annotations

import base64
import hashlib
import random
import re

import pytest

from garrison.fetch._names import page_name
from garrison.fetch._sites import parse_site

SAFE = re.compile(r"[a-z0-9][a-z0-9._~+,=-]*\.[a-z0-9]{1,8}")
NASTY = [
    "a.com/..",
    "a.com/../../etc/passwd",
    "http://a.com/%2e%2e%2f",
    "http://a.com//",
    "http://a.com/%00",
    "http://a.com/\\..\\x",
    "http://a.com/.hidden",
    "http://a.com/~",
    "http://a.com/" + "x" * 5000,
    "x" * 60 + "." + "y" * 60 + ".com",
    "http://a.com/日本語/ページ.html",
    "http://a.com/A",
    "http://a.com/a",
    "http://a.com/a?",
    "http://a.com/a?b",
    "http://a.com/a_b",
    "http://a.com/a/b",
    "https://a.com/a/b",
    "a.com",
    "a.com:81",
    "http://a.com",
    "https://a.com",
    "a.com.",
    "a.com.html",
    "report",
    "con",
    "nul.txt",
    "com1",
    "http://[::1]/",
    "http://[::2]/",
    "http://me:x@a.com",
    "http://me:y@a.com",
    "https://http/a.com/a",
    "http://a.com/a,b",
    "http://a.com/a+b",
    "http://a.com/a~.html",
    "http://a.com/a.html",
    "http://a.com/a?b&c",
    "http://a.com/a?b,c",
    "http://a.com:81/",
]


@pytest.mark.parametrize("text", NASTY)
def test_a_name_stays_in_its_folder(text: str) -> None:
    name = page_name(parse_site(text).key)
    assert SAFE.fullmatch(name)
    assert len(name) <= 140
    assert name.partition(".")[0] not in {"report", "con", "nul", "com1"}


def test_no_two_names_clash() -> None:
    keys = {parse_site(text).key for text in NASTY}
    assert len({page_name(key).casefold() for key in keys}) == len(keys) == len(NASTY) - 1


def test_random_urls_do_not_clash() -> None:
    seed = random.SystemRandom().randrange(2**32)
    some = random.Random(seed)
    texts = {
        "http://a.com/" + "".join(some.choices("aA./_~-%?=&,+:é", k=some.randrange(1, 12)))
        for _ in range(3000)
    }
    keys = {parse_site(text).key for text in texts}
    names = [page_name(key) for key in keys]
    assert len(set(names)) == len(names), f"seed {seed}"
    assert all(map(SAFE.fullmatch, names)), f"seed {seed}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("www.qq.com", "www.qq.com.html"),
        ("http://a.com/img/Logo.PNG?v=2", "a.com+img+logo.png_v_2~dljv2mul5dud3eiy.png"),
        ("https://a.com/", "a.com+~.html"),
        ("https://a.com/blog/first_post", "a.com+blog+first_post~.html"),
        ("https://a.com/blog/first.html", "a.com+blog+first.html"),
        ("https://a.com/blog/first.html/", "a.com+blog+first.html+~.html"),
        ("https://a.com/v.1/x", "a.com+v.1+x~.html"),
        ("https://a.com/logo.png", "a.com+logo.png"),
        ("https://a.com/.png", "a.com+.png~.html"),
        ("https://a.com/logo.png?v=2&w=3", "a.com+logo.png,v=2,w=3~.html"),
        ("http://a.com:81/x?y", "http+a.com,81+x,y~.html"),
        ("https://con.com/x", "page_con.com+x~2pmcg73yttycnn2w.html"),
    ],
)
def test_names_stay_the_same_for_ever(text: str, name: str) -> None:
    """Resuming needs that: change these only with a way to find old pages."""
    assert page_name(parse_site(text).key) == name


def test_a_password_is_not_in_the_name() -> None:
    assert "secret" not in page_name(parse_site("http://me:secret@a.com/").key)


@pytest.mark.parametrize(
    "text",
    [
        "https://secret@a.com/x",
        "https://secret:x-oauth@a.com/x",
        "https://a.com/x?token=secret",
        "https://a.com/x;jsessionid=secret?y=1",
        "a.com/x?api_key=secret",
    ],
)
def test_no_secret_is_in_a_name(text: str) -> None:
    assert "secret" not in page_name(parse_site(text).key)


def test_sites_that_differ_in_secrets_have_different_names() -> None:
    texts = [
        *(f"https://{user}a.com/x" for user in ("", "me@", "me:a@", "me:b@")),
        *(f"https://a.com/x?token={token}" for token in "ab"),
    ]
    assert len({page_name(parse_site(text).key) for text in texts}) == len(texts)


def test_password_cannot_be_tried_out_on_a_name() -> None:
    """The hash in it is not the plain one of the address."""
    key = parse_site("https://me:short@a.com/x").key
    plain = base64.b32encode(hashlib.sha256(key.encode()).digest()).decode().lower()
    assert plain[:16] not in page_name(key)
