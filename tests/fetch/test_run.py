"""A run whose processes do not live, with no process at all."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from garrison.errors import WorkerDied
from garrison.fetch._channel import LaneServer
from garrison.fetch._lane_tasks import LaneTasks
from garrison.fetch._messages import Settings
from garrison.fetch._pages import PageDirectory
from garrison.fetch._progress import LineProgress
from garrison.fetch._report import Report
from garrison.fetch._results import Output
from garrison.fetch._run import Run
from garrison.fetch._site_queue import SiteQueue
from garrison.fetch._sites import parse_site

SETTINGS = Settings(folder="", run="", agent="")


class DeadOnArrival:
    """The task of a lane whose process was killed before it joined."""

    def ready(self) -> bool:
        return True

    def wait(self, timeout: float) -> None:
        """It is over already."""

    def get(self) -> Any:
        raise WorkerDied("run_lane", {"pid": 1, "signal": 9, "exitcode": -9})


class DeadlyPool:
    def __init__(self) -> None:
        self.hired = 0

    def apply_async(self, *_: object) -> DeadOnArrival:
        self.hired += 1
        return DeadOnArrival()


def test_processes_that_never_live_end_in_failed_sites(tmp_path: Path, capsys: Any) -> None:
    sites = {number: parse_site(f"{number}.com") for number in range(3)}
    names = [f"{number}.html" for number in range(3)]
    pool = DeadlyPool()
    with closing(LaneServer()) as server, closing(PageDirectory(str(tmp_path))) as folder:
        output = Output(folder, names, Report(None, []))
        lanes = LaneTasks(pool, 2, server.address, SETTINGS)
        run = Run(lanes, server, SiteQueue(sites, SETTINGS, 2), output, LineProgress(3))
        run.run()
    assert 10 <= pool.hired <= 14
    assert sorted(page.outcome.site for page in run.pages) == [0, 1, 2]
    assert {page.fetched for page in run.pages} == {False}
    assert "killed by SIGKILL" in run.pages[0].outcome.reason
    assert "it had no site" in capsys.readouterr().err
