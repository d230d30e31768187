"""scikit-learn through joblib: the same numbers on garrison as on joblib's own processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import needs, run

pytestmark = needs("sklearn")

PROGRAM = """
import garrison.joblib
import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

X, y = make_classification(2_000, 80, random_state=0)  # 1.3 MB: more than max_nbytes

def numbers():
    forest = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(X, y)
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0]}, n_jobs=2).fit(X, y)
    # Its OpenMP has run in this process before.
    boosted = cross_val_score(HistGradientBoostingClassifier(max_iter=5), X, y, n_jobs=2)
    return [
        *forest.predict_proba(X[:5]).ravel(),
        *cross_val_score(RandomForestClassifier(5, random_state=0), X, y, n_jobs=2),
        *search.cv_results_["mean_test_score"],
        search.best_score_,
        *boosted,
    ]

if __name__ == "__main__":
    HistGradientBoostingClassifier(max_iter=5).fit(X, y)
    found = {}
    for backend in ("loky", "garrison"):
        with joblib.parallel_config(backend=backend):
            found[backend] = numbers()
    print(len(found["loky"]), found["loky"] == found["garrison"])
"""


@pytest.mark.watchdog(300)
def test_the_same_numbers_as_on_loky(tmp_path: Path) -> None:
    assert run(tmp_path, PROGRAM) == "24 True\n"


FRAME = """
import garrison.joblib
import joblib
import pandas as pd
from joblib import Parallel, delayed

def total(frame, column):
    return float(frame[column].sum())

if __name__ == "__main__":
    frame = pd.DataFrame({name: range(100_000) for name in "abcd"})
    with joblib.parallel_config(backend="garrison", n_jobs=2):
        print(Parallel()(delayed(total)(frame, name) for name in "abcd"))
"""


@pytest.mark.watchdog(180)
@needs("pandas")
def test_a_frame_for_many_tasks(tmp_path: Path) -> None:
    assert run(tmp_path, FRAME) == f"{[4999950000.0] * 4}\n"


NUMEXPR = """
import garrison.joblib
import numexpr
from joblib import Parallel, delayed, parallel_config

if __name__ == "__main__":
    for method in ("fork", "forkserver"):
        with parallel_config(
            backend="garrison", n_jobs=2, start_method=method, inner_max_num_threads=1
        ):
            print(Parallel()(delayed(numexpr.get_num_threads)() for _ in range(2)))
"""


@pytest.mark.watchdog(180)
@needs("numexpr")
def test_numexprs_threads_are_limited(tmp_path: Path) -> None:
    assert run(tmp_path, NUMEXPR) == "[1, 1]\n[1, 1]\n"
