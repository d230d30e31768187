"""What a line of the file means, and what is said about one that means nothing."""

from __future__ import annotations

import pytest

from garrison.fetch._sites import Site, SitesError, parse_site, parse_sites


def keys(text: str) -> list[str]:
    sites, _ = parse_sites(text.encode(), "x")
    return [site.key for site in sites]


def test_comments_blank_lines_and_repeats_are_skipped() -> None:
    text = "# mine\n\n  www.qq.com  \nwww.163.com # news\nWWW.QQ.com\r\nwww.qq.com/\n"
    sites, repeats = parse_sites(text.encode(), "x")
    assert [(site.text, site.line) for site in sites] == [("www.qq.com", 3), ("www.163.com", 4)]
    assert repeats == 2


def test_byte_order_mark_is_skipped() -> None:
    assert [site.key for site in parse_sites(b"\xef\xbb\xbfwww.qq.com", "x")[0]] == ["www.qq.com"]


def test_a_bare_host_is_tried_over_https_and_then_http() -> None:
    site = parse_site("www.qq.com")
    assert [site.url(scheme) for scheme in site.schemes] == [
        "https://www.qq.com/",
        "http://www.qq.com/",
    ]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("HTTP://Example.COM", "http://example.com/"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("https://example.com/A?b=C#fragment", "https://example.com/A?b=C"),
        ("https://例え.jp/ä?ö", "https://xn--r8jz45g.jp/%C3%A4?%C3%B6"),
        ("https://example.com/a%20b", "https://example.com/a%20b"),
        ("http://[0:0::1]:8080/", "http://[::1]:8080/"),
        ("http://user:word@example.com/", "http://user:word@example.com/"),
    ],
)
def test_urls_are_normalized(text: str, url: str) -> None:
    site = parse_site(text)
    assert site.url(site.schemes[0]) == site.key == url


def test_bare_hosts_and_urls_are_different_sites() -> None:
    assert len(keys("a.com\nhttp://a.com\nhttps://a.com\na.com:80\na.com/x\n")) == 5


def test_a_password_is_not_shown() -> None:
    site = parse_site("https://me:secret@example.com/")
    assert site.text == "https://***@example.com/"
    assert "me:secret@" in site.key


@pytest.mark.parametrize(
    "text",
    [
        "me:hidden@example.com",
        "https://me:hid den@example.com/",
        "https://me:x/hidden@example.com/",
        "https://hidden@exa mple.com/",
        "ftp://me:hidden@example.com/",
        "https://example.com:x/?token=hidden",
    ],
)
def test_message_about_a_line_shows_no_secret(text: str) -> None:
    with pytest.raises(SitesError) as caught:
        parse_sites(text.encode(), "list")
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ftp://example.com/", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("two words.com", "no spaces"),
        ("nul\x00.com", "no spaces or control characters"),
        ("http://", "no host"),
        ("/etc/passwd", "no host"),
        ("../up", "is no host name"),
        ("a..b", "is no host name"),
        ("-a.com", "is no host name"),
        ("a,b.com", "is no host name"),
        (f"{'a' * 64}ö.com", "is no host name"),
        (f"{'a.' * 130}com", "is no host name"),
        ("example.com:0", "no port"),
        ("example.com:99999", "no port"),
        ("javascript:alert(1)", "no port"),
        ("me@example.com", "write the whole URL"),
        ("http://[::1", "IPv6"),
        ("http://[::zz]/", "::zz"),
        (f"example.com/{'x' * 8000}", "longer than 8000"),
    ],
)
def test_line_that_is_no_site_is_refused(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_site(text)


def test_every_bad_line_is_named() -> None:
    with pytest.raises(SitesError) as caught:
        parse_sites(b"a.com\nftp://b\n# \xff\nc.com\nd\xe9.com\n", "list.txt")
    assert str(caught.value).splitlines() == [
        "list.txt:2: 'ftp://b': only http and https sites can be fetched",
        "list.txt:3: not UTF-8: byte 0xff at column 3",
        "list.txt:5: not UTF-8: byte 0xe9 at column 2",
    ]


def test_a_site_can_be_made_by_hand() -> None:
    assert Site("x", 1, ("http",), "x/").key == "http://x/"
