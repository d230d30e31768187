"""Which engine a pool has: by name, address, class or object, or for a whole program."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import garrison
from garrison.engines import (
    Engine,
    OverExecutor,
    PoolSettings,
    Serial,
    Threads,
    engine_of_program,
    find_engine,
)
from garrison.errors import EngineUnavailable, GarrisonError

from . import tasks
from .subjects import Subject, all_subjects

if TYPE_CHECKING:
    from garrison.engines import Backend

TESTS = Path(__file__).parent.parent


class Counted(Serial):
    """An engine of the user's, by its class."""

    settings: ClassVar[list[PoolSettings]] = []

    def backend(self, settings: PoolSettings) -> Any:
        self.settings.append(settings)
        return super().backend(settings)


class NoEngine:
    """Not an engine."""


@pytest.mark.parametrize("subject", all_subjects(), ids=lambda subject: subject.name)
def test_suite_runs_over_this_engine_here(subject: Subject) -> None:
    if subject.missing:
        pytest.skip(f"{subject.name}: {subject.missing}")


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package look as if it were not installed."""
    find = importlib.util.find_spec

    def find_others(name: str, *args: Any) -> Any:
        return None if name == package else find(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program; without names of the environment that choose an engine."""
    inherited = {key: value for key, value in os.environ.items() if key != "GARRISON_ENGINE"}
    search = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, "PYTHONPATH": search, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- The argument ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "kind"),
    [("serial", Serial), ("threads", Threads), ("engines.test_choice:Counted", Counted)],
)
def test_engine_of_a_name(chosen: str, kind: type) -> None:
    assert type(find_engine(chosen)) is kind


def test_engine_object_is_used_as_it_is() -> None:
    engine = Counted()
    with garrison.Pool(3, tasks.begin, [1], 7, engine=engine, retries=1, seed=5) as pool:
        assert pool.apply(abs, (-1,)) == 1
        assert pool._processes == 3
    assert engine.settings[-1][:4] == (3, tasks.begin, (1,), 7)
    assert engine.settings[-1].options.retries == 1
    assert engine.settings[-1].seed == pool.seed == 5
    tasks.begin(None)


def test_seed_is_among_the_options_only_if_it_was_chosen() -> None:
    with garrison.Pool(engine=Counted()) as pool:
        pass
    assert Counted.settings[-1].processes is None
    assert Counted.settings[-1].seed == pool.seed
    assert Counted.settings[-1].options.seed is None
    assert pool._processes == 1


def test_executor_is_recognized_by_its_base() -> None:
    class Own(ThreadPoolExecutor):
        pass

    with Own(1) as executor:
        found = find_engine(executor)
    assert isinstance(found, OverExecutor)
    assert found.executor is executor


@pytest.mark.parametrize("chosen", ["rya", "", "http://host", "ray:/host", ":", "serial "])
def test_wrong_name_lists_what_there_is(chosen: str) -> None:
    with pytest.raises(ValueError, match=r"no engine .*processes, serial, threads, .*ray, dask"):
        garrison.Pool(1, engine=chosen)


def test_wrong_object_lists_what_there_is() -> None:
    for chosen in (3, object(), Serial):
        with pytest.raises(TypeError, match=r"no engine works with .*concurrent.futures.Executor"):
            garrison.Pool(1, engine=chosen)


def test_class_of_a_name_must_be_there_and_be_an_engine() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        find_engine("no_such_module:Engine")
    with pytest.raises(AttributeError, match="Missing"):
        find_engine("engines.test_choice:Missing")
    with pytest.raises(TypeError, match=r"is no garrison\.engines\.Engine"):
        find_engine("engines.test_choice:NoEngine")


@pytest.mark.parametrize(
    ("chosen", "package", "extra"),
    [
        ("ray", "ray", "ray"),
        ("ray://head:10001", "ray", "ray"),
        ("dask", "distributed", "dask"),
        ("tcp://scheduler:8786", "distributed", "dask"),
        ("tls://scheduler:8786", "distributed", "dask"),
    ],
)
def test_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, chosen: str, package: str, extra: str
) -> None:
    without(monkeypatch, package)
    with pytest.raises(EngineUnavailable, match=rf'pip install "garrison\[{extra}\]"') as raised:
        garrison.Pool(1, engine=chosen)
    assert isinstance(raised.value, GarrisonError)
    assert isinstance(raised.value, ConnectionError)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has sub-interpreters")
def test_interpreters_name_the_version_that_they_need() -> None:
    with pytest.raises(EngineUnavailable, match=r"needs CPython 3\.14 or newer, this is cpython 3"):
        garrison.Pool(1, engine="interpreters")


def test_number_of_workers_has_no_limit_of_one_machine() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        garrison.Pool(10_000, engine="processes")
    with garrison.Pool(10_000, engine="serial") as pool:
        assert pool._processes == 10_000


def test_engine_is_given_by_keyword_only() -> None:
    pool: Any = garrison.Pool
    with pytest.raises(TypeError, match="positional"):
        pool(1, None, (), None, None, "serial")


def test_engine_that_fails_to_start_leaves_nothing() -> None:
    class Failing(Engine):
        name = "failing"

        def backend(self, settings: PoolSettings) -> Backend:
            raise EngineUnavailable("no cluster at the address")

    with pytest.raises(EngineUnavailable, match="no cluster"):
        garrison.Pool(1, engine=Failing())


# --- A whole program ------------------------------------------------------------------------------

SHOW = (
    "import garrison as multiprocessing, os\n"
    "with multiprocessing.Pool(2{0}) as pool: print(pool.apply(os.getpid) == os.getpid())\n"
)


def test_environment_chooses_for_pools_that_do_not_say() -> None:
    assert run(SHOW.format("")).stdout == "False\n"
    assert run(SHOW.format(""), GARRISON_ENGINE="serial").stdout == "True\n"
    assert run(SHOW.format(""), GARRISON_ENGINE="").stdout == "False\n"
    assert run(SHOW.format(""), GARRISON_ENGINE="processes").stdout == "False\n"
    context = SHOW.replace("multiprocessing.Pool", "multiprocessing.get_context('spawn').Pool")
    assert run(context.format(""), GARRISON_ENGINE="threads").stdout == "True\n"


def test_argument_is_stronger_than_the_environment() -> None:
    explicit = SHOW.format(", engine='processes'")
    assert run(explicit, GARRISON_ENGINE="serial").stdout == "False\n"
    assert run(explicit, GARRISON_ENGINE="rya").stdout == "False\n"


def test_wrong_name_in_the_environment_is_an_error_of_the_pool() -> None:
    done = run(SHOW.format(""), GARRISON_ENGINE="rya")
    assert done.returncode == 1
    assert "ValueError: GARRISON_ENGINE=rya: there is no engine 'rya'; there are " in done.stderr
    done = run(SHOW.format(""), GARRISON_ENGINE="engines.test_choice:NoEngine")
    assert "GARRISON_ENGINE=engines.test_choice:NoEngine: " in done.stderr
    assert run("import garrison", GARRISON_ENGINE="rya").returncode == 0


NESTED = """
import garrison, os
from garrison.engines import engine_of_program

def chosen():
    found = engine_of_program(os.environ)
    return None if found is None else found.name

with garrison.Pool(1, engine="processes") as pool:
    print(pool.apply(chosen))
"""


def test_cluster_is_chosen_for_the_program_not_for_its_workers() -> None:
    assert run(NESTED, GARRISON_ENGINE="dask").stdout == "None\n"
    assert run(NESTED, GARRISON_ENGINE="tcp://nowhere:1").stdout == "None\n"
    assert run(NESTED, GARRISON_ENGINE="rya").stdout == "None\n"
    assert run(NESTED, GARRISON_ENGINE="serial").stdout == "serial\n"


def test_environment_of_this_process() -> None:
    assert engine_of_program({}) is None
    assert type(engine_of_program({"GARRISON_ENGINE": "serial"})) is Serial


def test_usual_pool_loads_no_engine() -> None:
    program = (
        "import garrison, sys\n"
        "with garrison.Pool(1) as pool: pool.apply(abs, (1,))\n"
        "print([name for name in sys.modules if name.startswith('garrison.engines')])\n"
    )
    assert run(program).stdout == "[]\n"
