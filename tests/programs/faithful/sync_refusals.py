"""Calls that locks, semaphores and the like refuse, and what is so afterwards."""

import multiprocessing
import sys


def shown(call, *args, **kwds):
    try:
        return repr(call(*args, **kwds))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main():
    for kind in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"):
        made = getattr(multiprocessing, kind)()
        for timeout in ("1", [], b"2", object):
            for block in (True, False):
                print(kind, block, shown(made.acquire, block, timeout))
        print(kind, made if kind != "Condition" else made.acquire(False))
    event = multiprocessing.Event()
    print("Event", shown(event.wait, "1").split(":")[0])


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    main()
