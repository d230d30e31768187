"""Pickles of shared containers: data on a disk, the same container in another process."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import garrison
from garrison.managers import Namespace

METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture
def manager() -> Any:
    with garrison.Manager() as started:
        yield started
    vars(started).clear()  # pytest keeps it for a while


def add(shared: Any) -> Any:
    shared["nested"]["seen"] = True
    return shared


class Holder:
    def __init__(self, shared: Any) -> None:
        self.shared = shared


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_plain_all_the_way_down(manager: Any, protocol: int) -> None:
    shared = manager.dict(a={"b": [1]})
    shared["own"] = manager.list([manager.dict(x=1), (manager.list([2]),)])
    found = pickle.loads(pickle.dumps([shared, dict(shared)], protocol))
    plain = {"a": {"b": [1]}, "own": [{"x": 1}, ([2],)]}
    assert found == [plain, plain]
    assert {type(each) for each in (found[0], found[1]["a"], found[1]["own"][0])} == {dict}
    assert type(found[0]["own"][1][0]) is list


def test_each_kind_is_pickled_as_its_plain_type(manager: Any) -> None:
    found = pickle.loads(
        pickle.dumps(
            [
                *(manager.set([1]), manager.deque([1], 3), manager.Counter({"a": 2})),
                *(manager.Array("i", [1]), manager.Value("i", 5), manager.Namespace(x=[1])),
            ]
        )
    )
    assert found[:3] == [{1}, deque([1], 3), Counter(a=2)]
    assert [type(each) for each in found[:3]] == [set, deque, Counter]
    assert (found[3].typecode, found[3].tolist()) == ("i", [1])
    assert (found[4].value, vars(found[5]), type(found[5])) == (5, {"x": [1]}, Namespace)


def test_recursive_container_is_pickled(manager: Any) -> None:
    shared = manager.dict()
    shared["me"] = shared
    found = pickle.loads(pickle.dumps(shared))
    assert found["me"] is found["me"]["me"]


def test_plain_pickle_is_read_without_garrison(tmp_path: Path) -> None:
    with garrison.Manager() as manager:
        shared = manager.dict({0: {"score": [1, 2]}})
        (tmp_path / "data").write_bytes(pickle.dumps([dict(shared), shared, list(shared.items())]))
    code = "import pickle, sys; print(pickle.load(open('data', 'rb')), 'garrison' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    plain = {0: {"score": [1, 2]}}
    assert done.stdout == f"{[plain, plain, list(plain.items())]} False\n"


@pytest.mark.parametrize("method", METHODS)
def test_transfer_refers_to_the_same_container(manager: Any, method: str) -> None:
    context = garrison.get_context(method)

    def fresh() -> Any:
        return manager.dict(nested={})

    with context.Pool(1) as pool:
        shared = fresh()
        pool.apply(add, (shared,))["more"] = 1
        assert shared == {"nested": {"seen": True}, "more": 1}
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        shared = fresh()
        executor.submit(add, shared).result()["more"] = 1
        assert shared == {"nested": {"seen": True}, "more": 1}
    shared = fresh()
    process = context.Process(target=add, args=(shared,))
    process.start()
    process.join()
    assert shared["nested"] == {"seen": True}


def test_container_is_sent_by_queues_connections_and_containers(manager: Any) -> None:
    shared = manager.dict(nested={})
    here, there = garrison.Pipe()
    queues = garrison.Queue(), garrison.SimpleQueue(), manager.Queue()
    with here, there:
        here.send(Holder(shared))
        received = [there.recv().shared]
    for items in queues:
        items.put([shared])
        received += items.get()
    holder = manager.list([Holder(shared)])
    received.append(holder[0].shared)
    for number, each in enumerate(received):
        each[number] = True
    assert len(shared) == 1 + len(received)
    queues[0].close()
    queues[1].close()


def test_cloudpickle_sends_a_reference(manager: Any) -> None:
    shared = manager.list()
    cloudpickle.loads(cloudpickle.dumps(lambda: shared.append(1)))()
    cloudpickle.loads(cloudpickle.dumps(Holder(shared))).shared.append(2)
    assert shared == [1, 2]


def test_a_queue_is_pickled_as_a_proxy_is(manager: Any) -> None:
    items = manager.Queue()
    pickle.loads(pickle.dumps(items)).put(1)
    assert items.get() == 1


def test_forking_pickler_sends_a_reference(manager: Any) -> None:
    shared = manager.dict()
    again = pickle.loads(bytes(reduction.ForkingPickler.dumps(shared)))
    again["a"] = 1
    assert (shared, copy.copy(shared), copy.deepcopy(shared)) == ({"a": 1}, {"a": 1}, {"a": 1})


def test_json_writes_nested_containers(manager: Any) -> None:
    shared = manager.dict(a={"scores": [1, 2]}, b=[{"c": []}])
    plain = {"a": {"scores": [1, 2]}, "b": [{"c": []}]}
    for written in (json.dumps(dict(shared)), json.dumps(dict(shared), indent=1)):
        assert json.loads(written) == plain
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps({"no": object()})


def test_repr_of_a_nested_container_is_that_of_the_plain_one(manager: Any) -> None:
    shared = manager.dict(a={"scores": [1, 2]})
    assert repr(dict(shared)) == repr(shared.copy()) == "{'a': {'scores': [1, 2]}}"
    shared["own"] = manager.list([3])
    assert repr(shared["own"]).startswith("<ListProxy object, typeid 'list' at ")
