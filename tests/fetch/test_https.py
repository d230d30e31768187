"""TLS: certificates that are trusted, and those that are not."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pycurl
import pytest

from waiting import wait_until

from .runner import Runner
from .site_server import SiteServer, page_body

HOST = "secure.test"

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="no openssl command, to make a certificate with"
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    options = (
        f"-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={HOST} -addext subjectAltName=DNS:{HOST}"
    )
    command = ["openssl", "req", *options.split(), "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


@pytest.fixture
def secure(certificate: Path) -> Iterator[SiteServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with closing(SiteServer(context)) as site_server:
        yield site_server


def to(plain: SiteServer, secure: SiteServer) -> list[str]:
    return [
        f"--connect-to={HOST}:443:127.0.0.1:{secure.port}",
        f"--connect-to={HOST}:80:127.0.0.1:{plain.port}",
    ]


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_bare_host_is_fetched_over_https_first(
    fetch: Runner, server: SiteServer, secure: SiteServer, certificate: Path, variable: str
) -> None:
    ended = fetch([HOST], *to(server, secure), env={variable: f"{certificate}.crt"})
    assert ended.code == 0, ended.err
    assert ended.report()[HOST]["url"] == f"https://{HOST}/"
    assert ended.pages() == {f"{HOST}.html": page_body(HOST, "/")}
    assert server.total() == 0


def test_an_untrusted_certificate_is_no_reason_for_http(
    fetch: Runner, server: SiteServer, secure: SiteServer
) -> None:
    ended = fetch([HOST], *to(server, secure))
    assert ended.code == 1
    assert "certificate" in ended.report()[HOST]["reason"]
    assert server.total() == secure.total() == 0


def test_the_name_in_the_certificate_counts(
    fetch: Runner, server: SiteServer, secure: SiteServer, certificate: Path
) -> None:
    elsewhere = f"--connect-to=other.test:443:127.0.0.1:{secure.port}"
    ended = fetch(["other.test"], elsewhere, env={"SSL_CERT_FILE": f"{certificate}.crt"})
    assert ended.code == 1
    assert ended.pages() == {}


@pytest.fixture
def http2_port(certificate: Path, tmp_path: Path) -> Iterator[int]:
    command = shutil.which("nghttpd")
    if command is None:
        pytest.skip("no nghttpd, a server that speaks HTTP/2 (Debian: nghttp2-server)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (tmp_path / "index.html").write_bytes(b"over HTTP/2")
    options = ["-a", "127.0.0.1", "-d", str(tmp_path), str(port)]
    files = [str(certificate), f"{certificate}.crt"]
    with subprocess.Popen([command, *options, *files], stdout=subprocess.DEVNULL) as process:
        wait_until(partial(_listens, port))
        yield port
        process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_http_2_where_the_server_has_it(fetch: Runner, certificate: Path, http2_port: int) -> None:
    if not pycurl.version_info()[4] & pycurl.VERSION_HTTP2:
        pytest.skip("this libcurl was built without HTTP/2")
    urls = [f"https://{HOST}/?{number}" for number in range(10)]
    there = f"--connect-to={HOST}:443:127.0.0.1:{http2_port}"
    ended = fetch(urls, there, env={"SSL_CERT_FILE": f"{certificate}.crt"})
    assert ended.code == 0, ended.err
    assert {record["http"] for record in ended.report().values()} == {"2"}
    assert set(ended.pages().values()) == {b"over HTTP/2"}
