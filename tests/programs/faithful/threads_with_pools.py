"""Threads that each make a pool or a process, at the same time."""

# methods: fork
import multiprocessing as mp
import sys
import threading


def put(queue):
    main = threading.main_thread()
    queue.put((threading.active_count(), threading.current_thread() is main, main.name))


def all_at_once(target, count):
    threads = [threading.Thread(target=target, name="T") for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    found = []

    def use_a_pool():
        with mp.Pool(2) as pool:
            found.append(pool.map(abs, [-1, -2]))

    def start_a_process():
        queue = mp.SimpleQueue()
        process = mp.Process(target=put, args=(queue,))
        process.start()
        found.append(queue.get())
        process.join()
        found.append(process.exitcode)

    all_at_once(use_a_pool, 4)
    print(found)
    found.clear()
    all_at_once(start_a_process, 1)
    print(found)
    pool = mp.Pool(2)
    all_at_once(lambda: print(pool.map(abs, [-5])), 2)
    all_at_once(pool.terminate, 1)
    pool.join()
    print(pool._state)
