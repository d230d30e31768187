"""Every process of a program reports what it makes to the program's own resource tracker."""
import multiprocessing as mp
import multiprocessing.managers
import multiprocessing.resource_tracker
import os
import sys


def same(pipe):
    here = os.fstat(mp.resource_tracker.getfd())
    return (here.st_dev, here.st_ino) == pipe


def tell(queue, pipe):
    queue.put(same(pipe))


def tell_of_child(pipe):
    mp.current_process()._config["daemon"] = False
    queue = mp.SimpleQueue()
    child = mp.Process(target=tell, args=(queue, pipe))
    child.start()
    child.join()
    return queue.get()


class Manager(mp.managers.BaseManager):
    pass


Manager.register("same", same)


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    own = os.fstat(mp.resource_tracker.getfd())
    pipe = (own.st_dev, own.st_ino)
    queue = mp.SimpleQueue()
    process = mp.Process(target=tell, args=(queue, pipe))
    process.start()
    # Flushed: a thread of the standard library's pool forks workers, which may print a line again.
    print("process", queue.get(), flush=True)
    process.join()
    with mp.Pool(2, maxtasksperchild=1) as pool:
        print("workers", pool.map(same, [pipe] * 4, chunksize=1), flush=True)
        print("child of a worker", pool.apply(tell_of_child, (pipe,)), flush=True)
    with Manager() as manager:
        print("manager", manager.same(pipe)._getvalue(), flush=True)
