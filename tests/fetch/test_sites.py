"""What a line of the file means, and what is said about one that means nothing."""

from __future__ import annotations

import pytest

from garrison.fetch._input_formats import InputError, parse_format
from garrison.fetch._sites import Site, parse_site, parse_sites


def keys(text: str) -> list[str]:
    return [site.key for site in parse_sites(text.encode()).sites]


def test_comments_blank_lines_and_repeats_are_skipped() -> None:
    text = "# mine\n\n  www.qq.com  \nwww.163.com # news\nWWW.QQ.com\r\nwww.qq.com/\n"
    sites, repeats, _ = parse_sites(text.encode())
    assert [(site.text, site.line) for site in sites] == [("www.qq.com", 3), ("www.163.com", 4)]
    assert repeats == 2


def test_byte_order_mark_is_skipped() -> None:
    assert [site.key for site in parse_sites(b"\xef\xbb\xbfwww.qq.com").sites] == ["www.qq.com"]


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
    [fault] = parse_sites(text.encode()).faults
    assert "hid" not in fault.describe("list")


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
        ("htp:/a.com", "no port"),
        ("http:/a.com", "no port"),
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
    found = parse_sites(b"a.com\nftp://b\n# \xff\nc.com\nd\xe9.com\n")
    assert [site.key for site in found.sites] == ["a.com", "c.com"]
    assert [fault.describe("list.txt") for fault in found.faults] == [
        "list.txt:2: 'ftp://b': only http and https sites can be fetched",
        r"list.txt:3: '# \\xff': not UTF-8: byte 0xff at column 3",
        r"list.txt:5: 'd\\xe9.com': not UTF-8: byte 0xe9 at column 2",
    ]


def read(raw: bytes, form: str) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    found = parse_sites(raw, parse_format(form))
    return [(each.line, each.key) for each in found.sites], [
        (each.line, each.reason) for each in found.faults
    ]


def test_a_column_of_a_table_has_the_sites() -> None:
    table = (
        b'\xef\xbb\xbfrank,site\r\n1,a.com\n2,"b.com"\n\n3,\n4\n5,"c\nd"\n6,\xff\n7,http://e/?a#b\n'
    )
    sites, faults = read(table, "csv:site")
    assert sites == [(2, "a.com"), (3, "b.com"), (10, "http://e/?a")]
    assert faults == [
        (5, "column 2 is empty"),
        (6, "column 2 is empty"),
        (8, "a site has no spaces or control characters in it"),
        (9, "not UTF-8"),
    ]
    assert read(b"1,a.com\n2,b.com\n", "csv:2") == ([(1, "a.com"), (2, "b.com")], [])
    assert read(b'"x\turl\n1\ta.com\n', "tsv:url") == ([(2, "a.com")], [])
    with pytest.raises(InputError, match="no column 'url' in the first line; there are: 'a', 'b'"):
        read(b"a,b\n", "csv:url")
    with pytest.raises(InputError, match="there are: none"):
        read(b"", "csv:url")


def test_a_field_of_json_objects_has_the_sites() -> None:
    good = b'{"url": "a.com"}\n\n{"url": " b.com "}\n'
    bad = b'{"uri": 1}\n[]\n{"url": 3}\n{\n{"url": ""}\n\xff\n'
    sites, faults = read(good + bad, "jsonl:url")
    assert sites == [(1, "a.com"), (3, "b.com")]
    assert [line for line, _ in faults] == [4, 5, 6, 7, 8, 9]
    assert faults[0][1] == "no object with a field 'url'"
    assert faults[2][1] == "its 'url' is no text"
    assert faults[3][1].startswith("no JSON: ")


@pytest.mark.parametrize("text", ["csv", "csv:", "xml:x", "", "lines:x", "csv:0"])
def test_a_format_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=repr(text)):
        parse_format(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [("a.com/x", "a.com"), ("http://me:x@a.com:81/", "a.com"), ("http://[::1]:80/", "[::1]")],
)
def test_the_host_of_a_site(text: str, host: str) -> None:
    assert parse_site(text).host == host


def test_a_site_can_be_made_by_hand() -> None:
    assert Site("x", 1, ("http",), "x/").key == "http://x/"
