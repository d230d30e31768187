"""Locks, semaphores, events, conditions and barriers between processes."""

import multiprocessing as mp
import sys
import threading


def standard(error):
    """Name the first class of an exception that every Python has."""
    known = {"builtins", "queue", "threading"}
    return next(each.__name__ for each in type(error).__mro__ if each.__module__ in known)


def shown(call):
    try:
        return call()
    except Exception as error:
        return standard(error)


def count(lock, value, event, barrier):
    event.wait()
    for _ in range(1000):
        with lock:
            value.value += 1
    barrier.wait()


def announce(condition, ready):
    with condition:
        ready.value = 1
        condition.notify_all()


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    lock, value, event, barrier = mp.Lock(), mp.Value("i", 0, lock=False), mp.Event(), mp.Barrier(3)
    processes = [mp.Process(target=count, args=(lock, value, event, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    event.set()
    barrier.wait()
    print(value.value, event.is_set(), barrier.broken, barrier.n_waiting, barrier.parties)
    for process in processes:
        process.join()
    print(lock.acquire(), lock.acquire(False), lock.acquire(timeout=0.01), shown(lock.release))
    print(shown(lock.release))
    rlock = mp.RLock()
    print(rlock.acquire(), rlock.acquire(), rlock.release(), rlock.release(), shown(rlock.release))
    semaphore, bounded = mp.Semaphore(2), mp.BoundedSemaphore(1)
    print(semaphore.get_value(), semaphore.acquire(), semaphore.get_value(), semaphore.release())
    print(shown(bounded.release), bounded.acquire(), bounded.acquire(False), bounded.release())
    condition, ready = mp.Condition(), mp.Value("i", 0)
    with condition:
        process = mp.Process(target=announce, args=(condition, ready))
        process.start()
        print(condition.wait_for(lambda: ready.value, timeout=30), condition.wait(0.01))
    process.join()
    print(shown(condition.notify), shown(lambda: condition.wait(0)))
    barrier.abort()
    print(barrier.broken, shown(barrier.wait), barrier.reset(), barrier.broken)
    print(issubclass(threading.BrokenBarrierError, RuntimeError))
    print(shown(lambda: mp.Semaphore(-1)), shown(lambda: mp.Semaphore("a")))
