"""What `--compare` of the benchmarks says has moved."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "compare.py"
if not FILE.exists():
    pytest.skip("these tests do not run against an installed wheel", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("compare", FILE)
assert _spec is not None
assert _spec.loader is not None
compare: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(compare)


def document(own: list[float], baseline: list[float], better: str = "lower") -> dict[str, Any]:
    values = {"garrison": own, "multiprocessing": baseline}
    metric = {"name": "get", "unit": "us", "better": better, "values": values}
    return {"name": "example", "baseline": "multiprocessing", "metrics": [metric]}


@pytest.mark.parametrize(
    ("old", "new", "better", "said"),
    [
        (document([2, 2.1], [4, 4]), document([1, 1.1], [4, 4]), "lower", "better"),
        (document([1, 1.1], [4, 4]), document([2, 2.1], [4, 4]), "lower", "worse"),
        (document([8, 9], [4, 4], "higher"), document([4, 4], [4, 4], "higher"), "higher", "worse"),
        (document([1, 2], []), document([3, 4], []), "lower", "worse"),
        (document([4, 5], [], "higher"), document([6, 7], [], "higher"), "higher", "better"),
    ],
)
def test_what_lies_beyond_all_rounds_has_moved(
    old: dict[str, Any], new: dict[str, Any], better: str, said: str
) -> None:
    assert old["metrics"][0]["better"] == better
    (line,) = compare.moved(old, new)
    assert line.startswith("get: ")
    assert line.endswith(said)


def test_a_slow_machine_has_moved_nothing() -> None:
    assert compare.moved(document([1, 1.2], [4, 4]), document([2, 2.1], [8, 8])) == []


def test_an_old_result_is_found_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "example.json").write_text(json.dumps(document([1], [2])))
    assert compare.old_document(str(tmp_path), "example")["name"] == "example"
    with pytest.raises(SystemExit, match="is a result of example, not of other"):
        compare.old_document(str(tmp_path / "example.json"), "other")
    with pytest.raises(SystemExit, match="No such file"):
        compare.old_document(str(tmp_path), "missing")
