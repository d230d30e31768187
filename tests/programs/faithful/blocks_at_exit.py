"""Shared memory that a process still has open when it ends: nothing is said of it."""

import multiprocessing
import os
import sys
from multiprocessing.managers import SharedMemoryManager


def work(numbers, at, block):
    numbers[at] *= 10
    block.buf[at] = at


def main():
    with SharedMemoryManager() as manager:
        numbers, block = manager.ShareableList(range(6)), manager.SharedMemory(8)
        args = [(numbers, at, block) for at in range(3)]
        processes = [multiprocessing.Process(target=work, args=each) for each in args]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            print(process.exitcode)
        print(list(numbers), bytes(block.buf[:3]))


if __name__ == "__main__":
    os.dup2(1, 2)
    multiprocessing.set_start_method(sys.argv[1])
    main()
