"""Pages that come compressed: how large they may become."""

from __future__ import annotations

import pytest

from .runner import Runner
from .site_server import SiteServer


@pytest.mark.parametrize(
    ("page", "options", "reason"),
    [
        ("/bomb", [], "decompressed to more than --max-ratio 100 times its size"),
        ("/big-bomb", [], "decompressed to more than --max-ratio 100 times its size"),
        ("/bomb", ["--max-ratio", "900"], "decompressed to more than --max-ratio 900"),
        (
            "/big-bomb",
            ["--max-ratio", "10000"],
            "decompressed to more than --max-decompressed 64000000",
        ),
        (
            "/well-compressed",
            ["--max-decompressed", "5M"],
            "decompressed to more than --max-decompressed 5000000",
        ),
    ],
)
def test_page_that_grows_too_much_is_refused(
    fetch: Runner, server: SiteServer, page: str, options: list[str], reason: str
) -> None:
    ended = fetch([server.url(page)], *options)
    assert (ended.code, ended.pages(), server.total()) == (1, {}, 1)
    assert reason in ended.report()[server.url(page)]["reason"]


@pytest.mark.parametrize(
    ("page", "options", "size"),
    [
        ("/small-bomb", [], 900_000),
        ("/well-compressed", [], 8_000_000),
        ("/bomb", ["--max-ratio", "2000"], 5_000_000),
        ("/large", ["--max-decompressed", "1k", "--max-ratio", "1"], 3_000_000),
    ],
)
def test_page_within_the_bounds_is_kept(
    fetch: Runner, server: SiteServer, page: str, options: list[str], size: int
) -> None:
    ended = fetch([server.url(page)], *options)
    assert ended.code == 0, ended.err
    assert [len(body) for body in ended.pages().values()] == [size]
