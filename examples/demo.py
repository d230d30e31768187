"""The tutorial's programs: pool, shared memory, manager, downloader. `make demo` runs this.

The downloader fetches its six sites from the Internet; on a machine without one, from a
server that is started here for the purpose.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from served import hold, serve
from shared import share
from site_server import home_page, serving
from squares import squares

HERE = Path(__file__).parent
SITES = HERE / "download.txt"
PAGES = Path("pages")
SECONDS_TO_REACH = 3.0


def main() -> int:
    print("A pool of 5 processes maps x -> x**2 over 1..10:")
    print(numbers := squares())
    if numbers != [x**2 for x in range(1, 11)]:
        return complain("these are not the squares of 1 to 10")
    print("\nA process writes into a shared value and a shared array:")
    number, numbers = share()
    print(number)
    print(numbers)
    if (number, numbers) != (3.14, [5, *range(1, 10)]):
        return complain("this is not what the process has written")
    print("\nA manager's server holds a value, an array and a list; a process changes them:")
    if hold() != (3.14, [5, *range(1, 10)], ["Hello"]):
        return complain("this is not what the process has left in the server")
    print("\nA server is found by its address, as from another computer:")
    if serve() != ({"apples": 6}, ["three apples came"] * 2):
        return complain("this is not what the two clients have done")
    hosts = [line for line in SITES.read_text().splitlines() if not line.startswith("#")]
    if reachable(hosts[0]):
        print(f"\nA pool of 3 processes downloads {len(hosts)} home pages, from the Internet:")
        return check(hosts, fetch())
    print(
        f"\n{hosts[0]} cannot be reached from this machine."
        f"\nA pool of 3 processes downloads {len(hosts)} home pages, from a server on this machine:"
    )
    with serving(hosts) as port:
        status = fetch("--connect-to", f"::127.0.0.1:{port}")
    return check(hosts, status) or compare(hosts)


def reachable(host: str) -> bool:
    """Whether a site answers on the Internet, decided within three seconds."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(connects(host)), daemon=True)
    thread.start()
    thread.join(SECONDS_TO_REACH)  # looking up a name has no time-out of its own
    return answers == [True]


def connects(host: str) -> bool:
    try:
        socket.create_connection((host, 443), SECONDS_TO_REACH).close()
    except OSError:
        return False
    return True


def fetch(*options: str) -> int:
    started = time.monotonic()
    command = [sys.executable, "-m", "garrison", "fetch", str(SITES), "-j", "3", "-o", str(PAGES)]
    sys.stdout.flush()
    # A proxy knows no server on this machine.
    environment = os.environ | ({"no_proxy": "*"} if options else {})
    status = subprocess.run([*command, *options], env=environment, check=False).returncode
    print(f"(exit status {status}, {time.monotonic() - started:.1f} s)")
    return status


def check(hosts: list[str], status: int) -> int:
    """Look at what is on disk: a page for each site."""
    if status != 0:
        return complain(f"garrison fetch ended with status {status}")
    missing = [host for host in hosts if not (PAGES / f"{host}.html").is_file()]
    if missing:
        return complain(f"no page of {', '.join(missing)} in {PAGES}/")
    print(f"{len(hosts)} pages are in {PAGES}/")
    return 0


def compare(hosts: list[str]) -> int:
    """Compare the pages with what the server here gave out."""
    wrong = [host for host in hosts if (PAGES / f"{host}.html").read_bytes() != home_page(host)]
    return complain(f"the pages of {', '.join(wrong)} are not what was served") if wrong else 0


def complain(what: str) -> int:
    print(f"demo: {what}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
