"""The tutorial's manager: a server holds a value, an array and a list, and a process changes them.

Then a server that is found by its address: `garrison serve` in a process of its own, and a client
in another that has nothing but the address and the key, as on another computer.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import garrison as multiprocessing


def f(x: Any, arr: Any, l: Any) -> None:  # noqa: E741 - as in the tutorial
    x.value = 3.14
    arr[0] = 5
    l.append("Hello")


def hold() -> tuple[float, list[int], list[str]]:
    server = multiprocessing.Manager()
    x = server.Value("d", 0.0)
    arr = server.Array("i", range(10))
    l = server.list()  # noqa: E741 - as in the tutorial

    proc = multiprocessing.Process(target=f, args=(x, arr, l))
    proc.start()
    proc.join()

    print(x.value)
    print(arr)
    print(l)
    return x.value, list(arr), list(l)


def visit(address: str, key: Path) -> None:
    """What a client on another computer does."""
    manager = multiprocessing.connect(address, key, direct=False)
    stock = manager.dict("stock")
    with manager.transaction():  # both or neither, whatever becomes of this process
        stock["apples"] = stock.get("apples", 0) + 3
        manager.list(name="log").append("three apples came")


def serve() -> tuple[dict[str, int], list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder, "key")
        command = [sys.executable, "-m", "garrison", "serve"]
        server = subprocess.Popen(
            [*command, "--address", "127.0.0.1:0", "--key-file", str(key)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with server:
            assert server.stdout is not None
            line = server.stdout.readline().strip()
            print(line)
            address = line.split('"')[1]
            for _ in range(2):
                client = multiprocessing.Process(target=visit, args=(address, key))
                client.start()
                client.join()
            manager = multiprocessing.connect(address, key)
            stock, log = manager.dict("stock").copy(), manager.list(name="log")[:]
            server.terminate()
    print(stock, log)
    return stock, log


if __name__ == "__main__":
    hold()
    serve()
