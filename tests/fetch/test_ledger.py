"""Which lane gets which site, and what happens to a site next; no process is needed."""

from __future__ import annotations

from garrison.fetch._ledger import Ledger, Page, failure
from garrison.fetch._messages import Job, Outcome, Settings
from garrison.fetch._sites import parse_site

BAD_PROXY_NAME, RESOLVE, REFUSED, TOO_SLOW, UNTRUSTED, TOO_LARGE = 5, 6, 7, 28, 60, 63


def ledger(*texts: str, lanes: int = 1, per_worker: int = 8, retries: int = 2) -> Ledger:
    settings = Settings(folder="", run="", agent="", per_worker=per_worker, retries=retries)
    return Ledger({i: parse_site(text) for i, text in enumerate(texts)}, settings, lanes)


def failed(job: Job, code: int, reason: str = "it failed") -> Outcome:
    return failure(job.site, job.url, reason)._replace(code=code)


def refused(job: Job, status: int, retry_after: int = 0) -> Outcome:
    outcome = failure(job.site, job.url, f"{status}")
    return outcome._replace(status=status, linked=True, retry_after=retry_after)


def fetched(job: Job) -> Outcome:
    return failure(job.site, job.url, "")._replace(status=200, part="x", linked=True)


def numbered(count: int) -> list[str]:
    return [f"http://{number}.com/" for number in range(count)]


def the_page(page: Page | None) -> Page:
    assert page is not None
    return page


def test_a_short_list_is_shared_among_all_lanes() -> None:
    book = ledger(*numbered(6), lanes=3)
    assert [len(book.take(lane)) for lane in (0, 0, 1, 0, 2)] == [2, 0, 2, 0, 2]


def test_a_lane_gets_what_it_has_room_for() -> None:
    book = ledger(*numbered(100), lanes=2, per_worker=4)
    jobs = book.take(0)
    assert len(jobs) == 4
    assert book.take(0) == []
    book.settle(0, fetched(jobs[2]), 0)
    assert len(book.take(0)) == 1


def test_done_when_every_site_is() -> None:
    book = ledger(*numbered(2))
    first, second = book.take(0)
    assert the_page(book.settle(0, fetched(first), 0)).fetched
    assert book.left == 1
    assert not the_page(book.settle(0, failed(second, 3), 0)).fetched
    assert book.left == 0


def test_a_bare_host_falls_back_to_http() -> None:
    book = ledger("a.com")
    [job] = book.take(0)
    assert job.url == "https://a.com/"
    assert job.connect_seconds < job.seconds
    assert book.settle(0, failed(job, REFUSED, "refused"), 0) is None
    [job] = book.take(0)
    assert job.url == "http://a.com/"
    page = the_page(book.settle(0, fetched(job), 0))
    assert (page.fetched, page.tries) == (True, 1)


def test_both_reasons_are_given() -> None:
    book = ledger("a.com", retries=0)
    for reason in ("no TLS", "no TCP"):
        [job] = book.take(0)
        page = book.settle(0, failed(job, REFUSED, reason), 0)
    assert the_page(page).outcome.reason == "https: no TLS; http: no TCP"


def test_no_fall_back_from_a_server_that_answered() -> None:
    book = ledger("a.com", retries=0)
    [job] = book.take(0)
    page = book.settle(0, refused(job, 404), 0)
    assert the_page(page).outcome.url == "https://a.com/"


def test_no_fall_back_for_an_unknown_or_untrusted_host() -> None:
    for code in (RESOLVE, BAD_PROXY_NAME, UNTRUSTED):
        book = ledger("a.com", retries=0)
        [job] = book.take(0)
        assert book.settle(0, failed(job, code), 0) is not None


def test_what_may_pass_is_tried_again_later_and_later() -> None:
    book = ledger("http://a.com", retries=2)
    pauses = []
    for _ in range(2):
        [job] = book.take(0)
        assert book.settle(0, failed(job, TOO_SLOW), 100) is None
        pause = book.pause(100)
        assert pause is not None
        pauses.append(pause)
        book.wake(100 + pause / 2)
        assert book.take(0) == []
        book.wake(100 + pause)
    [job] = book.take(0)
    page = the_page(book.settle(0, failed(job, TOO_SLOW), 100))
    assert (pauses, page.tries) == ([0.5, 1.0], 3)


def test_a_server_may_ask_for_time() -> None:
    book = ledger(*numbered(2))
    first, second = book.take(0)
    book.settle(0, refused(first, 503, 7), 0)
    assert book.pause(0) == 7
    book.wake(8)
    book.settle(0, refused(second, 429, 100_000), 8)
    assert book.pause(8) == 60


def test_what_will_not_pass_is_not_tried_again() -> None:
    book = ledger(*numbered(3))
    first, second, third = book.take(0)
    assert book.settle(0, refused(first, 404), 0)
    assert book.settle(0, failed(second, TOO_LARGE), 0)
    assert book.settle(0, failed(third, UNTRUSTED), 0)


def test_a_lane_that_dies_gives_its_sites_back() -> None:
    book = ledger(*numbered(4), lanes=2)
    lost, others = book.take(0), book.take(1)
    assert book.lose(0, "killed") == []
    done = []
    while others:
        done += [the_page(book.settle(1, fetched(job), 0)) for job in others]
        others = book.take(1)
    assert {page.outcome.site for page in done} >= {job.site for job in lost}
    assert [page.tries for page in done] == [1] * 4


def test_a_site_that_kills_goes_alone_and_is_given_up() -> None:
    book = ledger(*numbered(3))
    deaths = [[len(book.take(lane)), len(book.lose(lane, "killed"))] for lane in range(2)]
    assert deaths == [[3, 0], [3, 0]]  # in company; from now on each goes out alone
    lane, killer = 2, 1
    while book.left > 1:
        [job] = book.take(lane)
        assert book.take(lane) == []
        if job.site == killer:
            book.lose(lane, "killed")
            lane += 1
        else:
            book.settle(lane, fetched(job), 0)
    for _ in range(5):
        if book.left:
            book.take(lane)
            pages = book.lose(lane, "killed by signal 11")
    assert [page.outcome.reason for page in pages] == ["killed by signal 11"]
    assert pages[0].outcome.site == killer


def test_deaths_without_sites_cost_nothing() -> None:
    book = ledger(*numbered(1))
    assert [book.lose(lane, "killed") for lane in range(100)] == [[]] * 100
    assert len(book.take(0)) == 1


def test_giving_up_leaves_nothing_waiting() -> None:
    book = ledger(*numbered(5), lanes=2)
    [first, *_] = book.take(0)
    book.settle(0, failed(first, TOO_SLOW), 0)
    pages = book.abandon("no process stays alive")
    assert book.left == 2  # what the lane has
    assert len(pages) == 3
    assert book.take(1) == []


def test_tries_over_two_schemes_count_once() -> None:
    book = ledger("a.com", retries=1)
    for _ in range(2):
        for url in ("https://a.com/", "http://a.com/"):
            book.wake(1000)
            [job] = book.take(0)
            assert job.url == url
            page = book.settle(0, failed(job, REFUSED), 0)
    assert the_page(page).tries == 2
