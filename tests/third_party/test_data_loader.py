"""torch's DataLoader beside a pool, and with garrison in place of multiprocessing."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import needs, run

pytestmark = needs("torch")

PROGRAM = """
import torch
from torch.utils.data import DataLoader, Dataset
import garrison

class Squares(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, n):
        return torch.tensor(float(n * n))

def half(n):
    return n / 2

if __name__ == "__main__":
    total = sum(n * n for n in range(64))
    with garrison.get_context("METHOD").Pool(2) as pool:
        halves = pool.imap(half, range(1000))
        for _ in range(2):
            loader = DataLoader(Squares(), batch_size=8, num_workers=2, shuffle=True)
            print(sum(batch.sum().item() for batch in loader) == total)
        print(sum(halves) == sum(range(1000)) / 2)
        # In the parent, while it reads batches: the input of an imap.
        loader = DataLoader(Squares(), batch_size=8, num_workers=2)
        print(sum(pool.imap(half, (batch.sum().item() for batch in loader))) == total / 2)
"""


@pytest.mark.watchdog(240)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_beside_a_pool(tmp_path: Path, method: str, in_place: bool) -> None:
    program = PROGRAM.replace("METHOD", method)
    assert run(tmp_path, program, in_place=in_place) == "True\nTrue\nTrue\nTrue\n"
