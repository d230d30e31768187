"""What runs, and what is written, when workers and processes end in order."""
import atexit
import multiprocessing as mp
import multiprocessing.util
import sys
import threading


class Noisy:
    def __del__(self):
        pass


def prepare():
    atexit.register(print, "atexit of a worker", flush=True)
    mp.util.Finalize(None, print, ("finalizer of a worker",), exitpriority=5)
    global kept
    kept = open("kept.txt", "w")
    kept.write("unflushed")


def task(x):
    sys.stdout.write(f"task {x};")
    return x


def threaded():
    threading.Thread(target=lambda: print("thread of a child", flush=True)).start()
    print("child", end=" ")


def registered():
    atexit.register(print, "atexit of a child", flush=True)
    print("registered")


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    print("before", flush=True)
    pool = mp.Pool(1, prepare)
    print(pool.map(task, [1, 2]), flush=True)
    pool.close()
    pool.join()
    print("joined", flush=True)
    print(repr(open("kept.txt").read()), flush=True)
    for target in (threaded, registered):
        process = mp.Process(target=target)
        process.start()
        process.join()
        print(process.exitcode, flush=True)
    pool = mp.Pool(1, maxtasksperchild=1)
    pids = pool.map(task, range(3), chunksize=1)
    pool.close()
    pool.join()
    print(pids, flush=True)
    print("end", flush=True)
