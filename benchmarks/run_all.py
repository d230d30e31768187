"""Run every benchmark, then print one table in Markdown: `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import headlines
from harness import BASELINE, HERE, RESULTS, SUBJECT, number

ORDER = [
    "apply_latency",
    "apply_async_many",
    "aio_calls",
    "cancel",
    "executors",
    "imap_small",
    "imap_chunks",
    "map_small",
    "packing",
    "parent_work",
    "scale",
    "arrays",
    "large_objects",
    "torch_tensors",
    "payload_matrix",
    "value_add",
    "lock_uncontended",
    "lock_two_processes",
    "lock_death",
    "array_items",
    "array_numpy",
    "share_tasks",
    "joblib_backend",
    "queue_one_process",
    "queue_between",
    "queue_round_trip",
    "queue_array",
    "manager_dict",
    "manager_four",
    "manager_bulk",
    "manager_million",
    "manager_method",
    "manager_remote",
    "valkey_containers",
    "manager_start",
    "manager_idle",
    "client_fairness",
    "pool_cycle",
    "import_time",
    "imap_memory",
    "memory_flat",
    "idle_cpu",
    "fetch_pages",
]
ALONE = 0.1  # the part of the machine that others may use unnoticed
HEAD = ["figure", SUBJECT, "standard library", "ratio", "reach", "aim", "best other", "file"]


def main() -> int:
    started = time.monotonic()
    failed = [name for name in ORDER if not run(name)]
    table = "\n".join(summary())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "summary.md").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n\n({time.monotonic() - started:.0f} s in all)")
    if shown := headlines.figures(RESULTS):
        headlines.draw(shown, RESULTS)
        print("\n".join(["", *headlines.table(shown)]))
    for name in failed:
        print(f"{name} failed: its lines are missing or old", file=sys.stderr)
    return 1 if failed else 0


def run(name: str) -> bool:
    file = HERE / f"{name}.py"
    (RESULTS / f"{name}.json").unlink(missing_ok=True)
    return subprocess.run([sys.executable, str(file), *sys.argv[1:]], check=False).returncode == 0


def summary() -> list[str]:
    """The table, and under it what it was measured on."""
    documents = [
        json.loads(file.read_text(encoding="utf-8"))
        for name in ORDER
        if (file := RESULTS / f"{name}.json").exists()
    ]
    lines = [row(HEAD), row(["---", *["---:"] * (len(HEAD) - 1)])]
    for document in documents:
        lines += [row(cells(document, metric)) for metric in document["metrics"]]
    # What was left out, and why: a library that is not installed, say.
    reasons = [
        f"{document['name']}.py, {peer}: {reason}."
        for document in documents
        for peer, reason in document["missing"].items()
    ]
    return [
        *lines,
        "",
        *reasons,
        *(conditions(document["machine"]) for document in documents[:1]),
        *busy(documents),
    ]


def busy(documents: list[dict[str, Any]]) -> list[str]:
    """A warning, where the machine had something else to do."""
    disturbed = [d["name"] for d in documents if d["neighbours"] > ALONE]
    return [f"Disturbed by other programs: {', '.join(disturbed)}."] if disturbed else []


def row(fields: list[str]) -> str:
    return "| " + " | ".join(fields) + " |"


def cells(document: dict[str, Any], metric: dict[str, Any]) -> list[str]:
    medians, unit, baseline = metric["medians"], metric["unit"], document["baseline"]
    several = len(document["metrics"]) > 1
    return [
        document["claim"] + (f": {metric['name']}" if several else ""),
        with_unit(medians.get(SUBJECT), unit),
        with_unit(medians.get(baseline), unit) + (f" ({baseline})" if baseline != BASELINE else ""),
        f"{metric['ratios'][SUBJECT]:.2f}x" if SUBJECT in metric["ratios"] else "-",
        goal(metric, "reach"),
        goal(metric, "aim"),
        best_other(metric, {SUBJECT, baseline}),
        f"{document['name']}.py",
    ]


def with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{number(value)} {unit}"


def goal(metric: dict[str, Any], name: str) -> str:
    if not metric[name]:
        return ""
    verdict = {True: "yes", False: "**no**", None: "?"}[metric[f"{name} met"]]
    return f"{metric[name]}: {verdict}"


def best_other(metric: dict[str, Any], known: set[str]) -> str:
    others = {peer: value for peer, value in metric["medians"].items() if peer not in known}
    if not others:
        return ""
    choose = max if metric["better"] == "higher" else min
    peer = choose(others, key=lambda name: others[name])
    return f"{with_unit(others[peer], metric['unit'])} ({peer})"


def conditions(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['system']}, "
        f"CPython {machine['python']}; {versions}. Median of interleaved rounds; "
        "ratio against the standard library in the same run."
    )


if __name__ == "__main__":
    sys.exit(main())
