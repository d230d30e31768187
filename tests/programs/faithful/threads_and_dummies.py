"""Pools of threads, and the modules that make threads look like processes."""
import multiprocessing
import multiprocessing.dummy
import multiprocessing.pool
# methods: fork
import sys
import threading
from multiprocessing.dummy import Pool as DummyPool
from multiprocessing.pool import ThreadPool

local = threading.local()


def prepare(value):
    local.value = value


def use(x):
    return local.value * x


if __name__ == "__main__":
    with ThreadPool(2, prepare, (3,)) as pool:
        print(pool.map(use, range(4)), list(pool.imap(use, range(3))), pool.starmap(pow, [(2, 3)]))
        print(pool.apply(lambda x: x + 1, (1,)), pool.map(lambda x: x.__class__, [1, "a"]))
        print(isinstance(pool, multiprocessing.pool.ThreadPool))
        result = pool.map_async(use, [1], callback=print)
        print(result.get())
    with DummyPool(1) as pool:
        print(pool.map(len, ["ab"]))
    process = multiprocessing.dummy.Process(target=print, args=("a dummy",))
    process.start()
    process.join()
    print(process.exitcode, process.is_alive(), multiprocessing.dummy.current_process().name == "MainThread")
    a, b = multiprocessing.dummy.Pipe()
    a.send(1)
    print(b.recv(), multiprocessing.dummy.Queue().empty(), multiprocessing.dummy.Manager().dict(x=1))
    value, array = multiprocessing.dummy.Value("i", 3), multiprocessing.dummy.Array("i", [1])
    print(value.value, array[0], multiprocessing.dummy.Namespace(a=1))
