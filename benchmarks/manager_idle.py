"""A server with a thousand clients that are connected and silent: its memory, its threads."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
from pathlib import Path
from typing import Any

import harness
from harness import BASELINE, SUBJECT, Goal, Metric, Values

KEY = b"a key for a benchmark, not for you"


def turn(peer: str, quick: bool) -> Values:
    clients = 100 if quick else 1000
    if peer == SUBJECT:
        return ours(clients)
    return standard(clients)


def ours(clients: int) -> Values:
    import garrison
    from garrison.net._connection import Connection

    with garrison.Manager(address=("127.0.0.1", 0), key=KEY) as served:
        connections = [Connection(served.address, KEY) for _ in range(clients)]
        found = looked_at(served._process.pid)
        for connection in connections:
            connection.close()
    return found


def standard(clients: int) -> Values:
    from multiprocessing.managers import dispatch  # type: ignore[attr-defined]

    with multiprocessing.managers.SyncManager(("127.0.0.1", 0), KEY) as served:
        address: Any = served.address
        connections = []
        for number in range(clients):
            connection = multiprocessing.connection.Client(address, authkey=KEY)
            dispatch(connection, None, "accept_connection", (f"client-{number}",))
            connections.append(connection)
        server: Any = served
        found = looked_at(server._process.pid)
        for connection in connections:
            connection.close()
    return found


def looked_at(pid: int) -> Values:
    """Megabytes that a process has to itself, and its threads."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    memory = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in memory if line.startswith("Private_"))
    return {"memory": private / 1000, "threads": float(status["Threads"])}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_idle",
            claim="a server with 1,000 idle clients",
            metrics=(
                Metric("memory", "MB", "lower", Goal("at most", 100)),
                Metric("threads", "threads", "lower", Goal("at most", 3)),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            rounds=2,
        )
    )
