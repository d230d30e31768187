"""Signal handlers: inherited, set by an initializer, run at terminate."""
import multiprocessing as mp
import os
import signal
import sys
import time


def on_term(number, frame):
    os.write(1, b"worker was told to end\n")
    time.sleep(2)
    os.write(1, b"worker has tidied up\n")
    sys.exit(0)


def prepare(event=None):
    global begun
    begun = event
    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def block(_):
    begun.set()
    time.sleep(60)


def handlers(_):
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGUSR1", "SIGCHLD", "SIGALRM")
    found = [signal.getsignal(getattr(signal, name)) for name in names]
    return [getattr(each, "__name__", None) or str(each) for each in found]


def alarm(_):
    caught = []
    signal.signal(signal.SIGALRM, lambda *_: caught.append("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while not caught:
        time.sleep(0.01)
    return caught


def mask(_):
    return sorted(int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, []))


def on_usr1(number, frame):
    pass


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    signal.signal(signal.SIGUSR1, on_usr1)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    with mp.Pool(1) as pool:
        print(pool.map(handlers, [0])[0], pool.map(mask, [0]), pool.map(alarm, [0]))
    event = mp.Event()
    pool = mp.Pool(1, prepare, (event,))
    print(pool.map(handlers, [0])[0], pool.map(mask, [0]), flush=True)
    pool.map_async(block, [0])
    event.wait()
    pool.terminate()
    pool.join()
    print("joined", flush=True)
    pool = mp.Pool(1, prepare)
    pool.apply(handlers, (0,))
    pool.close()
    pool.join()
    print("closed")
