"""scipy and emcee, which take any pool's `map`."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import needs, run

SCIPY = """
import garrison as multiprocessing
import numpy as np
from scipy.optimize import brute, differential_evolution, rosen

if __name__ == "__main__":
    multiprocessing.set_start_method("METHOD")
    options = dict(seed=1, maxiter=20, updating="deferred", polish=False)
    serial = differential_evolution(rosen, [(0, 2)] * 3, **options)
    with multiprocessing.Pool(2) as pool:
        parallel = differential_evolution(rosen, [(0, 2)] * 3, workers=pool.map, **options)
        grid = brute(rosen, [(0, 2), (0, 2)], Ns=11, finish=None, workers=pool.map)
    print((serial.x == parallel.x).all(), grid.round(6).tolist())
"""


@pytest.mark.watchdog(180)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@needs("scipy")
def test_scipy(tmp_path: Path, method: str) -> None:
    assert run(tmp_path, SCIPY.replace("METHOD", method)) == "True [1.0, 1.0]\n"


SCIPY_WORKERS = """
from scipy.optimize import differential_evolution, rosen

if __name__ == "__main__":
    found = differential_evolution(rosen, [(0, 2)] * 2, seed=1, workers=2, updating="deferred")
    print(found.x.round(3).tolist())
"""


@pytest.mark.watchdog(180)
@needs("scipy")
def test_scipy_makes_the_pool(tmp_path: Path) -> None:
    assert run(tmp_path, SCIPY_WORKERS, in_place=True) == "[1.0, 1.0]\n"


EMCEE = """
import emcee
import garrison as multiprocessing
import numpy as np

def log_prob(x):
    return -0.5 * np.sum(x ** 2)

if __name__ == "__main__":
    start = np.random.default_rng(7).normal(size=(16, 3))
    chains = []
    with multiprocessing.Pool(2) as pool:
        for kwds in ({}, {"pool": pool}):
            np.random.seed(42)
            sampler = emcee.EnsembleSampler(16, 3, log_prob, **kwds)
            sampler.run_mcmc(start, 30)
            chains.append(sampler.get_chain())
    print((chains[0] == chains[1]).all())
"""


@pytest.mark.watchdog(180)
@needs("emcee")
def test_emcee(tmp_path: Path) -> None:
    assert run(tmp_path, EMCEE) == "True\n"
