"""``garrison serve``: a manager for all processes that have its address and key."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from garrison._typing import Any
from garrison.manager import (
    NO_KEY,
    SCHEME,
    SyncManager,
    is_loopback,
    parse_address,
    read_key,
    write_key,
)
from garrison.net import generate_key

__all__ = ["add_parser"]

DEFAULT = "127.0.0.1:5000"
_UNUSABLE = 2


def add_parser(commands: Any) -> None:
    """Add the command to a command line."""
    parser = commands.add_parser(
        "serve",
        help="serve shared containers and locks to this computer and others",
        description="Serve shared containers and locks until stopped by Ctrl-C or SIGTERM.",
    )
    parser.add_argument(
        "--address",
        default=DEFAULT,
        metavar="HOST:PORT",
        help=f"where to listen; port 0 is any that is free (default: {DEFAULT}). A path, such as "
        "/run/me/socket, is for programs on this computer",
    )
    _add_keys(parser)
    parser.add_argument(
        "--path",
        type=Path,
        metavar="FOLDER",
        help="keep everything in this folder across restarts (default: in memory, until the end)",
    )
    parser.add_argument(
        "--sync", action="store_true", help="with --path: survive power cuts too; slower"
    )
    parser.set_defaults(command=run_serve)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    """Add what is about clients."""
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="the key that clients must have; if there is no such file, it is made. Without a key "
        "only programs on this computer can connect, and all of them can",
    )
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="further keys of clients, each on a line that `garrison key --name NAME` has printed; "
        "with --read-only there, its clients change nothing. Without its line a key is revoked "
        "within a second",
    )
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="with --key-file: keep any object. To read one is to run code of the client that has "
        "stored it, so each client may run code in all others (default: plain values only)",
    )


def run_serve(arguments: argparse.Namespace) -> int:
    """Run ``garrison serve``; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        address = parse_address(arguments.address, default_port=5000)
        key = _key(arguments)
        _check_options(arguments, address, key)
        manager = SyncManager(
            address,
            key or NO_KEY,
            path=arguments.path,
            sync=arguments.sync,
            allow_pickle=arguments.allow_pickle,
            allow_shutdown=False,
            keys=arguments.keys,
        )
        server = manager.get_server()
    except (OSError, ValueError) as error:
        print(f"garrison serve: {error}", file=sys.stderr)
        return _UNUSABLE
    try:
        server.run(ready=lambda: _tell(server, arguments))
    finally:
        server.listener.unlink()
    return 0


def _check_options(arguments: argparse.Namespace, address: Any, key: bytes) -> None:
    if key:
        return
    if not is_loopback(address):
        raise ValueError(f"other computers reach {arguments.address}: give a --key-file")
    if arguments.allow_pickle:
        raise ValueError("--allow-pickle lets clients run code: give a --key-file")


def _key(arguments: argparse.Namespace) -> bytes:
    path: Path | None = arguments.key_file
    if path is None:
        # With named keys the server's own is nobody's.
        return NO_KEY if arguments.keys is None else generate_key()
    if path.exists():
        return read_key(path)
    key = write_key(path)
    print(f"made a new key in {path}; copy it to the clients, secretly", file=sys.stderr)
    return key


def _tell(server: Any, arguments: argparse.Namespace) -> None:
    """Print how to connect; the line can be pasted into a program."""
    address, file = server.address, arguments.key_file
    key = ", key=garrison.NO_KEY"
    if file or arguments.keys:
        key = f', key=Path("{file or "NAME.key"}")'
    if not is_loopback(address):
        key += f', fingerprint="{server.fingerprint}"'
    print(f"garrison.connect({_shown(address)}{key})", flush=True)


def _shown(address: Any) -> str:
    if isinstance(address, str):
        return json.dumps(str(Path(address).absolute()))
    host, port = address[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - shown, not bound
        host = "THIS-HOST"
    return f'"{SCHEME}[{host}]:{port}"' if ":" in host else f'"{SCHEME}{host}:{port}"'
