"""Bound methods of shared objects, alone, on their way to another process."""

import multiprocessing as mp
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor


def run(target, *args):
    process = mp.Process(target=target, args=args)
    process.start()
    process.join()
    return process.exitcode


def call_all(methods):
    for method, args in methods:
        method(*args)


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    event, barrier = mp.Event(), mp.Barrier(1)
    print(run(event.set), event.is_set(), run(event.wait), run(event.clear), event.is_set())
    print(run(barrier.wait), run(barrier.abort), barrier.broken)
    semaphore, queue, array = mp.Semaphore(2), mp.Queue(), mp.Array("i", 3)
    print(run(semaphore.__enter__), semaphore.get_value(), run(semaphore.get_value))
    print(run(array.__setitem__, 1, 5), array[:], run(queue.put, 3), queue.get(timeout=60))
    print(run(call_all, [(event.set, ()), (array.__setitem__, (0, 7))]), event.is_set(), array[:])
    with mp.Manager() as manager, mp.Pool(1) as pool, ProcessPoolExecutor(1) as executor:
        event, lock, queue = manager.Event(), manager.Lock(), manager.Queue()
        print(
            pool.apply(event.is_set), pool.apply(event.set), pool.apply(event.wait), event.is_set()
        )
        print(executor.submit(event.clear).result(), executor.submit(event.is_set).result())
        print(pool.apply(lock.acquire), lock.acquire(False), pool.apply(lock.release))
        print(lock.acquire(True), pool.apply(lock.acquire, (False,)), run(lock.release))
        semaphore, condition = manager.Semaphore(2), manager.Condition()
        print(pool.apply(semaphore.acquire), executor.submit(semaphore.release).result())
        print(pool.apply(condition.acquire), pool.apply(manager.Barrier(1).wait))
        print(
            pool.map(queue.put, [1, 2]),
            [queue.get(timeout=60), executor.submit(queue.get).result()],
        )
        names, ages = manager.list(), manager.dict(ann=3)
        print(pool.map(names.append, "ab"), names[:], pool.map(ages.get, ["ann", "bob"]))
        for method in (event.wait, lock.acquire, condition.notify, names.append, queue.put):
            print(pickle.loads(pickle.dumps(method)).__name__)
