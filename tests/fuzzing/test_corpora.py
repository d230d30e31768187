"""Every input of the Python targets' corpora once, and some hundred mutations of them."""

from __future__ import annotations

import random

import pytest

from .run import CORPORA, attempt, mutated
from .targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_corpora_and_mutations_give_values_or_promised_errors(name: str) -> None:
    corpus = [each.read_bytes() for each in sorted((CORPORA / name).iterdir())]
    assert corpus
    for data in corpus:
        attempt(TARGETS[name], data, 0)
    chance = random.Random(1)
    for _ in range(500):
        attempt(TARGETS[name], mutated(chance, corpus), 1)
