"""Queues between processes: order, kinds of errors, joining."""

import multiprocessing as mp
import queue
import sys


def standard(error):
    """Name the first class of an exception that every Python has."""
    known = {"builtins", "queue", "threading"}
    return next(each.__name__ for each in type(error).__mro__ if each.__module__ in known)


def shown(call):
    try:
        return call()
    except Exception as error:
        return standard(error)


def produce(items, q):
    for item in items:
        q.put(item)
    q.put(None)


def consume(q, out):
    while (item := q.get()) is not None:
        out.put(item * 2)
        q.task_done()
    q.task_done()


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    q = mp.Queue(2)
    print(q.empty(), q.full(), q.qsize(), shown(q.get_nowait), shown(lambda: q.get(timeout=0.01)))
    q.put(1), q.put(2, True, 1)
    print(q.full(), shown(lambda: q.put_nowait(3)), shown(lambda: q.put(3, timeout=0.01)))
    print(q.get(), q.get(True, 5))
    process = mp.Process(target=produce, args=([1, "two", {"three": [3.0]}, b"4", None and 5], q))
    process.start()
    print(list(iter(q.get, None)))
    process.join()
    joinable, simple = mp.JoinableQueue(), mp.SimpleQueue()
    process = mp.Process(target=consume, args=(joinable, simple))
    process.start()
    for item in [1, "x", [2]]:
        joinable.put(item)
    joinable.put(None)
    joinable.join()
    print([simple.get() for _ in range(3)], simple.empty(), shown(joinable.task_done))
    process.join()
    q.close(), q.join_thread()
    print(shown(lambda: q.put(1)), shown(q.get))
