"""What a queue says after close()."""

import multiprocessing as mp
import sys


def refusal(expected, call, *args):
    try:
        return call(*args)
    except Exception as error:
        return isinstance(error, expected)


def take_and_close(queue):
    print(queue.get(timeout=60))
    queue.close()
    queue.join_thread()
    print(
        queue.empty(), refusal(ValueError, queue.get), refusal(ValueError, queue.put, 1), flush=True
    )


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    for kind in (mp.Queue, mp.JoinableQueue):
        queue = kind()
        queue.close()
        queue.join_thread()
        print(
            queue.empty(),
            queue.full(),
            refusal(ValueError, queue.put, 1),
            refusal(ValueError, queue.get_nowait),
        )
        queue = kind()
        queue.put("one")
        process = mp.Process(target=take_and_close, args=(queue,))
        process.start()
        process.join()
        queue.put("two")
        queue.close()
        queue.join_thread()
        print(
            refusal(OSError, queue.empty),
            queue.full(),
            queue.qsize(),
            refusal(ValueError, queue.put, 1),
            refusal(ValueError, queue.get),
        )
        print(queue.close(), queue.join_thread(), refusal(OSError, queue.empty))
    queue = mp.SimpleQueue()
    queue.put(1)
    queue.close()
    for call, args in ((queue.empty, ()), (queue.get, ()), (queue.put, (1,))):
        print(refusal(OSError, call, *args), queue.close())
