"""Names, codes and states of processes."""

import multiprocessing as mp
import os
import signal
import sys


def leave(code):
    sys.exit(code)


def fail():
    sys.stderr = None
    raise ValueError("on purpose")


def sleep():
    signal.pause()


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    for target, args in [(leave, (0,)), (leave, (3,)), (leave, (None,)), (fail, ())]:
        process = mp.Process(target=target, args=args)
        print(process.name, process.exitcode, process.is_alive(), process.pid)
        process.start()
        process.join()
        print(process.exitcode, process.is_alive(), process.daemon, process.name)
    process = mp.Process(target=sleep, name="sleeper", daemon=True)
    process.start()
    print(mp.active_children() == [process], process.sentinel > 2)
    process.terminate()
    process.join()
    print(process.exitcode == -signal.SIGTERM, mp.active_children())
    process.close()
    try:
        process.join()
    except ValueError as error:
        print(error)
