"""Secrets in addresses: masked wherever they would be seen or kept."""

from __future__ import annotations

import pytest

from garrison.fetch._masking import mask_text, mask_url

from .runner import Runner
from .site_server import SiteServer

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://a.com/x?page=2&sort=name", None),
        ("https://a.com/?author=me&keyword=tea&design=1&monk=2", None),
        ("https://a.com/@me/1?mail=me@a.com", None),
        ("www.a.com", None),
        ("https://me@a.com/", "https://***@a.com/"),
        (f"https://{TOKEN}@a.com/", "https://***@a.com/"),
        ("https://me:p@ss@a.com/", "https://***@a.com/"),
        ("//me:word@a.com/", "//***@a.com/"),
        ("https://a.com/?token=1&x=2", "https://a.com/?token=***&x=2"),
        ("https://a.com/?x=2;API%5FKEY=1", "https://a.com/?x=2;API%5FKEY=***"),
        ("https://a.com/?X-Amz-Signature=1", "https://a.com/?X-Amz-Signature=***"),
        ("https://a.com/?sig=1&password=2&pwd=3", "https://a.com/?sig=***&password=***&pwd=***"),
        (f"https://a.com/?x={TOKEN}", "https://a.com/?x=***"),
        (f"https://a.com/?{TOKEN}", "https://a.com/?***"),
        ("https://a.com/?x=0f8fad5b-d9cb-469f-a165-70867728950e", "https://a.com/?x=***"),
        ("https://a.com/?to=https%3A%2F%2Fme%3Aword%40b.com", "https://a.com/?to=***"),
        ("https://a.com/#access_token=1&x=2", "https://a.com/#access_token=***&x=2"),
        ("https://a.com/x;jsessionid=1/y?z=2", "https://a.com/x;jsessionid=***/y?z=2"),
        ("a.com/x?token=1", "a.com/x?token=***"),
        ("https://a.com/?token=", None),
    ],
)
def test_secrets_of_a_url_are_masked(url: str, masked: str | None) -> None:
    assert mask_url(url) == (masked or url)
    assert mask_url(mask_url(url)) == mask_url(url)


def test_urls_in_messages_are_masked() -> None:
    text = "cannot get https://me:word@a.com/?token=1 and b.com"
    assert mask_text(text) == "cannot get https://***@a.com/?token=*** and b.com"


@pytest.mark.parametrize("page", ["/plain", "/status/404", "/to-secret", "/silent"])
def test_no_secret_leaves_a_run(fetch: Runner, server: SiteServer, page: str) -> None:
    host = f"127.0.0.1:{server.port}"
    sites = [
        f"http://hidden:hidden@{host}{page}",
        f"http://hidden@{host}{page}?x=1",
        f"http://{host}{page}?token=hidden",
        f"http://{host}{page}?{TOKEN}",
    ]
    ended = fetch(sites, "--retries", "0")
    assert server.total() >= len(sites)
    seen = [ended.out, ended.err, (ended.folder / "report.jsonl").read_text(), *ended.pages()]
    assert not any("hidden" in text or TOKEN[4:] in text for text in seen)


def test_no_secret_of_an_earlier_report_is_kept(fetch: Runner, server: SiteServer) -> None:
    site = server.url("/plain")
    ended = fetch([site])
    report = ended.folder / "report.jsonl"
    report.write_text(report.read_text().replace('"url": "http://', '"url": "http://me:hidden@'))
    assert "hidden" in report.read_text()
    ended = fetch([site], "--resume")
    assert ended.code == 0
    assert "hidden" not in report.read_text() + ended.out + ended.err
