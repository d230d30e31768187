"""The tutorial's manager: a server holds a value, an array and a list; a child changes them.

Then the same over an address: another process finds a named dict in the server, as one on another
computer would.
"""

from __future__ import annotations

from typing import Any

import garrison as multiprocessing


def change(value: Any, array: Any, numbers: Any) -> None:
    value.value = 3.14
    array[0] = 5
    numbers.append("Hello")


def visit(address: tuple[str, int], key: str) -> None:
    there = multiprocessing.connect(f"garrison://{address[0]}:{address[1]}", key, direct=False)
    stock = there.dict("stock")
    with there.transaction():
        stock["apples"] = stock.get("apples", 0) + 3
        there.list(name="log").append("three apples came")


def main() -> None:
    server = multiprocessing.Manager()
    x = server.Value("d", 0.0)
    arr = server.Array("i", range(10))
    line = server.list()
    child = multiprocessing.Process(target=change, args=(x, arr, line))
    child.start()
    child.join()
    print(x.value)
    print(arr)
    print(line)

    with multiprocessing.Manager(address=("127.0.0.1", 0), key="a long random text") as served:
        host, port = served.address
        for _ in range(2):
            client = multiprocessing.Process(
                target=visit, args=((host, port), "a long random text")
            )
            client.start()
            client.join()
        print(served.dict("stock"), served.list(name="log"))


if __name__ == "__main__":
    main()
