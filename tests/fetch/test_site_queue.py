"""Which lane gets which site, and what happens to a site next; no process is needed."""

from __future__ import annotations

from garrison.fetch._messages import Job, Outcome, Settings
from garrison.fetch._site_queue import Page, SiteQueue, failure
from garrison.fetch._sites import parse_site

BAD_PROXY_NAME, RESOLVE, REFUSED, TOO_SLOW, UNTRUSTED, TOO_LARGE = 5, 6, 7, 28, 60, 63


def make_queue(
    *texts: str,
    lanes: int = 1,
    per_worker: int = 8,
    retries: int = 2,
    per_host: int | None = None,
) -> SiteQueue:
    settings = Settings(
        folder="",
        run="",
        agent="",
        per_worker=per_worker,
        per_host=per_host,
        retries=retries,
    )
    return SiteQueue({i: parse_site(text) for i, text in enumerate(texts)}, settings, lanes)


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
    queue = make_queue(*numbered(6), lanes=3)
    assert [len(queue.take_jobs(lane)) for lane in (0, 0, 1, 0, 2)] == [2, 0, 2, 0, 2]


def test_lane_gets_as_many_sites_as_it_has_room_for() -> None:
    queue = make_queue(*numbered(100), lanes=2, per_worker=4)
    jobs = queue.take_jobs(0)
    assert len(jobs) == 4
    assert queue.take_jobs(0) == []
    queue.record(0, fetched(jobs[2]), 0)
    assert len(queue.take_jobs(0)) == 1


def test_queue_is_done_when_every_site_is() -> None:
    queue = make_queue(*numbered(2))
    first, second = queue.take_jobs(0)
    assert the_page(queue.record(0, fetched(first), 0)).fetched
    assert queue.remaining == 1
    assert not the_page(queue.record(0, failed(second, 3), 0)).fetched
    assert queue.remaining == 0


def test_a_bare_host_falls_back_to_http() -> None:
    queue = make_queue("a.com")
    [job] = queue.take_jobs(0)
    assert job.url == "https://a.com/"
    assert job.connect_seconds < job.seconds
    assert queue.record(0, failed(job, REFUSED, "refused"), 0) is None
    [job] = queue.take_jobs(0)
    assert job.url == "http://a.com/"
    page = the_page(queue.record(0, fetched(job), 0))
    assert (page.fetched, page.attempts) == (True, 1)


def test_failure_names_the_reasons_of_both_schemes() -> None:
    queue = make_queue("a.com", retries=0)
    for reason in ("no TLS", "no TCP"):
        [job] = queue.take_jobs(0)
        page = queue.record(0, failed(job, REFUSED, reason), 0)
    assert the_page(page).outcome.reason == "https: no TLS; http: no TCP"


def test_no_fall_back_from_a_server_that_answered() -> None:
    queue = make_queue("a.com", retries=0)
    [job] = queue.take_jobs(0)
    page = queue.record(0, refused(job, 404), 0)
    assert the_page(page).outcome.url == "https://a.com/"


def test_no_fall_back_for_an_unknown_or_untrusted_host() -> None:
    for code in (RESOLVE, BAD_PROXY_NAME, UNTRUSTED):
        queue = make_queue("a.com", retries=0)
        [job] = queue.take_jobs(0)
        assert queue.record(0, failed(job, code), 0) is not None


def test_transient_failure_is_retried_with_growing_delays() -> None:
    queue = make_queue("http://a.com", retries=2)
    pauses = []
    for _ in range(2):
        [job] = queue.take_jobs(0)
        assert queue.record(0, failed(job, TOO_SLOW), 100) is None
        pause = queue.seconds_until_retry(100)
        assert pause is not None
        pauses.append(pause)
        queue.release_due(100 + pause / 2)
        assert queue.take_jobs(0) == []
        queue.release_due(100 + pause)
    [job] = queue.take_jobs(0)
    page = the_page(queue.record(0, failed(job, TOO_SLOW), 100))
    assert (pauses, page.attempts) == ([0.5, 1.0], 3)


def test_a_server_may_ask_for_time() -> None:
    queue = make_queue(*numbered(2))
    first, second = queue.take_jobs(0)
    queue.record(0, refused(first, 503, 7), 0)
    assert queue.seconds_until_retry(0) == 7
    queue.release_due(8)
    page = the_page(queue.record(0, refused(second, 429, 100_000), 8))
    assert page.outcome.reason == "429; it asks to be left alone for 100000 s"


def of_one_host(count: int) -> list[str]:
    return [f"http://a.com/{number}" for number in range(count)]


def test_a_host_has_a_limit_over_all_lanes() -> None:
    queue = make_queue(*of_one_host(6), "http://b.com", "http://c.com", lanes=2, per_host=2)
    first, second = queue.take_jobs(0), queue.take_jobs(1)
    assert [job.site for job in first + second] == [0, 1, 6, 7]
    assert queue.ready == 0
    jobs, done = {0: first, 1: second}, 0
    while any(jobs.values()):
        for lane in (0, 1):
            for job in jobs[lane]:
                assert the_page(queue.record(lane, fetched(job), 0)).fetched
                done += 1
            jobs[lane] = queue.take_jobs(lane)
        assert sum("a.com" in job.url for each in jobs.values() for job in each) <= 2
    assert (done, queue.remaining) == (8, 0)


def test_parked_sites_go_on_when_a_lane_dies() -> None:
    queue = make_queue(*of_one_host(3), per_host=1)
    assert len(queue.take_jobs(0)) == 1
    queue.record_lane_death(0, "killed")
    [job] = queue.take_jobs(1)
    queue.take_back(1, [job.site])
    assert len(queue.take_jobs(1)) == 1
    assert len(queue.give_up_waiting("no more")) == 2
    assert queue.remaining == 1


def test_host_that_asks_for_a_pause_gets_it_from_all_its_sites() -> None:
    queue = make_queue(*of_one_host(8), "http://b.com", lanes=1, per_worker=4)
    jobs = queue.take_jobs(0)
    assert len(jobs) == 4
    assert queue.record(0, refused(jobs[0], 429, 7), 100) is None
    assert queue.record(0, refused(jobs[1], 429, 7), 101) is None
    queue.release_due(102)
    [other] = queue.take_jobs(0)
    assert other.url == "http://b.com/"
    for job in (*jobs[2:], other):
        queue.record(0, fetched(job), 103)
    queue.release_due(107.9)
    assert queue.take_jobs(0) == []
    # Afterwards it is asked half as much at once: two, where there were four.
    queue.release_due(108)
    jobs, done = queue.take_jobs(0), 0
    while jobs:
        assert len(jobs) <= 2
        for job in jobs:
            done += the_page(queue.record(0, fetched(job), 108)).fetched
        jobs = queue.take_jobs(0)
    assert (done, queue.remaining) == (6, 0)


def test_another_error_is_no_request_for_a_pause() -> None:
    queue = make_queue(*of_one_host(3), per_worker=1)
    [job] = queue.take_jobs(0)
    queue.record(0, refused(job, 500), 100)
    queue.release_due(100)
    assert len(queue.take_jobs(0)) == 1


def test_permanent_failure_is_not_retried() -> None:
    queue = make_queue(*numbered(3))
    first, second, third = queue.take_jobs(0)
    assert queue.record(0, refused(first, 404), 0)
    assert queue.record(0, failed(second, TOO_LARGE), 0)
    assert queue.record(0, failed(third, UNTRUSTED), 0)


def test_a_lane_that_dies_gives_its_sites_back() -> None:
    queue = make_queue(*numbered(4), lanes=2)
    lost, others = queue.take_jobs(0), queue.take_jobs(1)
    assert queue.record_lane_death(0, "killed") == []
    done = []
    while others:
        done += [the_page(queue.record(1, fetched(job), 0)) for job in others]
        others = queue.take_jobs(1)
    assert {page.outcome.site for page in done} >= {job.site for job in lost}
    assert [page.attempts for page in done] == [1] * 4


def test_site_that_kills_lanes_is_tried_alone_and_given_up() -> None:
    queue = make_queue(*numbered(3))
    deaths = [
        [len(queue.take_jobs(lane)), len(queue.record_lane_death(lane, "killed"))]
        for lane in range(2)
    ]
    assert deaths == [[3, 0], [3, 0]]  # in company; from now on each goes out alone
    lane, killer = 2, 1
    while queue.remaining > 1:
        [job] = queue.take_jobs(lane)
        assert queue.take_jobs(lane) == []
        if job.site == killer:
            queue.record_lane_death(lane, "killed")
            lane += 1
        else:
            queue.record(lane, fetched(job), 0)
    for _ in range(5):
        if queue.remaining:
            queue.take_jobs(lane)
            pages = queue.record_lane_death(lane, "killed by signal 11")
    assert [page.outcome.reason for page in pages] == ["killed by signal 11"]
    assert pages[0].outcome.site == killer


def test_deaths_of_lanes_without_sites_charge_no_site() -> None:
    queue = make_queue(*numbered(1))
    assert [queue.record_lane_death(lane, "killed") for lane in range(100)] == [[]] * 100
    assert len(queue.take_jobs(0)) == 1


def test_giving_up_leaves_nothing_waiting() -> None:
    queue = make_queue(*numbered(5), lanes=2)
    [first, *_] = queue.take_jobs(0)
    queue.record(0, failed(first, TOO_SLOW), 0)
    pages = queue.give_up_waiting("no process stays alive")
    assert queue.remaining == 2  # what the lane has
    assert len(pages) == 3
    assert queue.take_jobs(1) == []


def test_attempts_over_two_schemes_count_once() -> None:
    queue = make_queue("a.com", retries=1)
    for _ in range(2):
        for url in ("https://a.com/", "http://a.com/"):
            queue.release_due(1000)
            [job] = queue.take_jobs(0)
            assert job.url == url
            page = queue.record(0, failed(job, REFUSED), 0)
    assert the_page(page).attempts == 2
