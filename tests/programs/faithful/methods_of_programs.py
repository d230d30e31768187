"""Methods that a program adds to the pool, in the form of the standard library's own."""

import multiprocessing as mp
import multiprocessing.pool as mpp
import sys


def istarmap(self, func, iterable, chunksize=1):
    self._check_running()
    batches = mpp.Pool._get_tasks(func, iterable, chunksize)
    result = mpp.IMapIterator(self)
    tasks = self._guarded_task_generation(result._job, mpp.starmapstar, batches)
    self._taskqueue.put((tasks, result._set_length))
    return (item for chunk in result for item in chunk)


def imap_in_any_order(self, func, iterable):
    result = mpp.IMapUnorderedIterator(self)
    tasks = self._guarded_task_generation(result._job, func, iterable)
    self._taskqueue.put((tasks, result._set_length))
    return result


mpp.Pool.istarmap = istarmap
mpp.Pool.imap_in_any_order = imap_in_any_order


def add(a, b):
    return a + b


def root(number):
    if number < 0:
        raise ValueError(number)
    return number**0.5


def bad_input():
    yield 1
    yield 4
    raise KeyError("input")


def all_of(iterator):
    found = []
    while True:
        try:
            found.append(next(iterator))
        except StopIteration:
            return found
        except Exception as error:
            found.append(repr(error))


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with mp.Pool(2) as pool:
        for chunksize in (1, 3):
            pairs = [(i, i) for i in range(100)]
            print(sum(pool.istarmap(add, pairs, chunksize)), list(pool.istarmap(add, [])))
            print(sum(pool.istarmap(add, ((i, 1) for i in range(7)), chunksize)))
        print(sorted(pool.imap_in_any_order(root, [1, 4, 9])))
        print(all_of(pool.istarmap(add, [(1, 2), (1, "2"), (3, 4)])))
        print(sorted(map(str, all_of(pool.imap_in_any_order(root, [1, -1, 4])))))
        print(sorted(map(str, all_of(pool.imap_in_any_order(root, bad_input())))))
        result = mpp.IMapIterator(pool)
        pool._taskqueue.put(([(result._job, 0, add, (1, 2), {})], result._set_length))
        print(result.next(timeout=60))
    with mp.Pool(2) as pool:
        last = pool.istarmap(add, pairs)
        pool.close()
        print(sum(last))
        pool.join()
        try:
            pool.istarmap(add, pairs)
        except ValueError as error:
            print(str(error)[:16])
