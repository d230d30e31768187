"""xarray, whose arrays of dask run on a pool of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import needs, run

PROGRAM = """
import dask
import garrison
import numpy as np
import xarray

if __name__ == "__main__":
    data = xarray.DataArray(np.arange(1_000_000.0).reshape(1000, 1000), dims=("x", "y"))
    with garrison.Pool(2) as pool, dask.config.set(scheduler="processes", pool=pool):
        chunked = data.chunk({"x": 100})
        print(float((chunked * 2).sum()), chunked.mean("x").compute().equals(data.mean("x")))
"""


@pytest.mark.watchdog(180)
@needs("xarray")
@needs("dask")
def test_an_array_in_chunks(tmp_path: Path) -> None:
    assert run(tmp_path, PROGRAM) == "999999000000.0 True\n"
