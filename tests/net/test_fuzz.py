"""A short run of the fuzzer; ``make fuzz`` is the long one."""

from __future__ import annotations

import resource

import pytest

from .fuzz import Fuzzer

INPUTS = 4000


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_input_only_raises_channel_errors(seed: int) -> None:
    fuzzer = Fuzzer(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(INPUTS):
        fuzzer.run(number)
    fuzzer.close()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50 << 10, f"{grown} KiB more"
    assert fuzzer.refused > INPUTS / 4
    assert fuzzer.accepted > INPUTS / 20
