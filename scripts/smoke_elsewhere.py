"""What garrison is on Windows and macOS: whether a program for the standard library runs on it."""

from __future__ import annotations

import sys
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "garrison has no core", RuntimeWarning)
    import garrison as multiprocessing
    from garrison import NATIVE, NeedsLinux, Process
    from garrison.pool import AsyncResult, ThreadPool


def double(x: int) -> int:
    return 2 * x


def work(queue: Any, lock: Any, value: Any) -> None:
    with lock:
        value.value += 1
    queue.put("done")


def check_pools() -> None:
    with multiprocessing.Pool(2, retries=0) as pool:
        assert pool.map(double, range(4)) == [0, 2, 4, 6]
        assert pool.options().apply(double, (4,)) == 8
        assert isinstance(pool.apply_async(double, (1,)), AsyncResult)
    for engine in ("threads", "serial"):
        with multiprocessing.Pool(2, engine=engine) as pool:
            assert pool.map(lambda x: x + 1, range(3)) == [1, 2, 3]
    with ThreadPool(2) as threads:
        assert threads.map(double, range(4)) == [0, 2, 4, 6]


def check_processes() -> None:
    queue, lock, value = multiprocessing.Queue(), multiprocessing.Lock(), multiprocessing.Value("i")
    process = Process(target=work, args=(queue, lock, value))
    process.start()
    assert queue.get() == "done"
    process.join()
    assert value.value == 1
    with multiprocessing.Manager() as manager:
        assert dict(manager.dict(a=1)) == {"a": 1}


def check_refusals() -> None:
    for use in (
        lambda: multiprocessing.Pool(2, timeout=5),
        lambda: multiprocessing.share([1]),
        lambda: multiprocessing.connect("garrison://there:5000"),
    ):
        try:
            use()
        except NeedsLinux:
            continue
        raise AssertionError(use)


def main() -> None:
    assert not NATIVE
    check_pools()
    check_processes()
    check_refusals()
    sys.modules["multiprocessing"] = multiprocessing
    from multiprocessing import managers

    assert managers.__name__ == "multiprocessing.managers"
    print(f"garrison on {sys.platform}: ok")


if __name__ == "__main__":
    main()
