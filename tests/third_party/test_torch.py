"""torch: tensors and modules are shared with tasks, not copied, as with `torch.multiprocessing`."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import resource_sharer
from typing import Any

import pytest

import garrison

torch: Any = pytest.importorskip("torch")
METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@pytest.fixture(autouse=True)
def _one_thread_and_no_sharer_left() -> Iterator[None]:
    torch.set_num_threads(1)  # a forked process must not meet the locks of others
    yield
    resource_sharer.stop()


def fill(tensor: Any, value: float) -> float:
    torch.set_num_threads(1)
    tensor.fill_(value)
    return float(tensor.sum())


def train(module: Any) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        module.weight += 1


def made(size: int) -> Any:
    torch.set_num_threads(1)
    return torch.arange(size, dtype=torch.float32)


def is_shared(value: Any) -> bool:
    return bool(value["tensor"].is_shared())


def take_and_fill(queue: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    tensor = queue.get()
    tensor[1] = 7
    answers.put(tensor.sum() * 2)
    queue.get()  # the sum lives here until it was received


@METHODS
def test_a_task_fills_a_shared_tensor(method: str) -> None:
    tensor = torch.zeros(4).share_memory_()
    with garrison.get_context(method).Pool(1) as pool:
        assert pool.apply(fill, (tensor, 2)) == 8
        assert tensor.tolist() == [2, 2, 2, 2]
        assert pool.starmap(fill, [(tensor[1:], 3)]) == [9]
        assert tensor.tolist() == [2, 3, 3, 3]
        assert list(pool.imap(is_shared, [{"tensor": torch.ones(2)}])) == [True]


@METHODS
def test_an_initializer_and_a_task_share_a_module(method: str) -> None:
    module = torch.nn.Linear(2, 2).share_memory()
    before = module.weight.detach().clone()
    with garrison.get_context(method).Pool(1, train, (module,)) as pool:
        pool.apply(train, (module,))
    assert torch.allclose(module.weight.detach(), before + 2)


def test_results_are_tensors() -> None:
    with garrison.Pool(2) as pool:
        assert [each.tolist() for each in pool.map(made, [1, 2])] == [[0], [0, 1]]
        assert pool.apply(made, (100_000,)).is_shared()


@METHODS
def test_tensors_go_through_queues(method: str) -> None:
    context = garrison.get_context(method)
    queue, answers = context.Queue(), context.Queue()
    process = context.Process(target=take_and_fill, args=(queue, answers))
    process.start()
    tensor = torch.zeros(3)
    queue.put(tensor)
    assert answers.get(timeout=60) == 14
    assert tensor.tolist() == [0, 7, 0]
    queue.put(None)
    process.join()
    process.close()


def test_a_data_loader_with_workers_beside_a_pool() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(8))
    with garrison.Pool(1) as pool:
        loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=1)
        sums = [int(batch.sum()) for (batch,) in loader]
        assert pool.map(int, sums) == [6, 22]


def fill_stored(stored: Any) -> None:
    torch.set_num_threads(1)
    stored["tensor"].fill_(5)


def test_a_tensor_in_a_shared_dict_is_shared() -> None:
    tensor = torch.zeros(2)
    with garrison.Manager() as manager, garrison.Pool(1) as pool:
        stored = manager.dict(tensor=tensor)
        for _ in range(2):
            tensor.zero_()
            pool.apply(fill_stored, (stored,))
            assert tensor.tolist() == stored["tensor"].tolist() == [5, 5]
