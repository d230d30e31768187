"""The checker of the site's links finds those that go nowhere."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from pages import ROOT

_checker = runpy.run_path(str(ROOT / "scripts" / "check_links.py"))
broken_links, main = _checker["broken_links"], _checker["main"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "pool.html").write_text('<h2 id="map">map</h2><a href="#map">here</a>')
    (tmp_path / "style.css").touch()
    return tmp_path


@pytest.mark.parametrize(
    "link", ["pool.html", "pool.html#map", "style.css", "https://example.org/not-asked", "."]
)
def test_what_leads_somewhere_is_fine(site: Path, link: str) -> None:
    (site / "index.html").write_text(f'<a href="{link}">there</a>')
    assert broken_links(site) == []
    assert main(site) == 0


@pytest.mark.parametrize("link", ["pol.html", "pool.html#mpa", "#map", "pictures/bar.png"])
def test_what_leads_nowhere_is_named(site: Path, link: str) -> None:
    (site / "index.html").write_text(f'<img src="{link}">')
    assert broken_links(site) == [f"index.html: {link}"]
    assert main(site) == 1


def test_a_site_without_pages_is_a_failure(tmp_path: Path) -> None:
    assert main(tmp_path) == 1
