"""The web configuration file means here what it means to node_exporter: the same file, the same clients, case by case."""

import base64
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from exporter.config.problems import ConfigErrors
from exporter.web_config.reload import ReloadingWebConfig
from tests.support.patience import LONGEST_WAIT
from tests.support.real import real_parts
from tests.support.scenes import certificates, web_server

pytestmark = pytest.mark.real
HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key"
MTLS = TLS + ", client_ca_file: ca.pem, client_auth_type: "
USERS = f"basic_auth_users: {{admin: '{HASH}', \"1001\": '{HASH}'}}\n"
HEADERS = """\
http_server_config:
  headers:
    Strict-Transport-Security: max-age=31536000; includeSubDomains
    X-Content-Type-Options: nosniff
    X-Frame-Options: deny
    X-XSS-Protection: "0"
    Content-Security-Policy: default-src 'self'
"""
SHOWN = ("www-authenticate", "strict-transport-security", "x-frame-options", "x-xss-protection")


@dataclass(frozen=True)
class Asking:
    """The request of a client: its certificate, and the TLS versions and ciphers that it offers."""

    path: str = "/metrics"
    auth: str | None = None
    cert: str = ""
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None
    ciphers: str = ""
    curve: str = ""
    plain: bool = False


def basic(text: str) -> Asking:
    return Asking(auth="Basic " + base64.b64encode(text.encode()).decode())


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
ONLY12, ONLY13 = Asking(versions=(V12, V12)), Asking(versions=(V13, V13))
OLD = Asking(versions=(ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1), ciphers="DEFAULT:@SECLEVEL=0")
GCM = "ECDHE-ECDSA-AES128-GCM-SHA256"
CHACHA = "ECDHE-ECDSA-CHACHA20-POLY1305"
PASSWORDS = (
    Asking(), basic("admin:secret"), basic("admin:wrong"), basic("nobody:secret"), basic("admin:"), basic(":secret"),
    basic("admin"), basic("admin:secret:more"), basic("ADMIN:secret"), basic("1001:secret"), basic("ädmin:sécret"),
    Asking(auth="Basic not*base64"), Asking(auth="Bearer secret"), Asking(auth="basic YWRtaW46c2VjcmV0"),
    Asking(path="/nothing-here"), Asking(auth="Basic"),
)  # fmt: skip
CLIENTS = (Asking(), Asking(cert="client"), Asking(cert="stranger"))

ACCEPTED: dict[str, tuple[str, tuple[Asking, ...]]] = {
    "an empty file": ("", (Asking(), basic("admin:secret"))),
    "keys without values": ("tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n", (Asking(),)),
    "users": (USERS, PASSWORDS),
    "headers": (HEADERS, (Asking(),)),
    "headers on a refusal": (HEADERS + USERS, (Asking(), basic("admin:secret"))),
    "TLS": (TLS + "}", (Asking(), Asking(plain=True), ONLY12, ONLY13, OLD)),
    "TLS and users": (TLS + "}\n" + USERS, (Asking(), basic("admin:secret"), basic("admin:x"))),
    "no http2": (TLS + "}\nhttp_server_config: {http2: false}", (Asking(),)),
    "http2": (TLS + "}\nhttp_server_config: {http2: true}", (Asking(),)),
    "at least TLS 1.3": (TLS + ", min_version: TLS13}", (ONLY12, ONLY13)),
    "at most TLS 1.2": (TLS + ", max_version: TLS12}", (ONLY12, ONLY13)),
    "TLS 1.0 on": (TLS + ", min_version: TLS10}", (OLD, ONLY12, ONLY13)),
    "TLS 1.1 on": (TLS + ", min_version: TLS11}", (ONLY12, ONLY13)),
    "one suite": (
        TLS + ", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}",
        (ONLY13, Asking(versions=(V12, V12), ciphers=GCM), Asking(versions=(V12, V12), ciphers=CHACHA)),
    ),
    "suites that do not fit the key": (
        TLS + ", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}",
        (ONLY12, ONLY13),
    ),
    "suites of TLS 1.3 only": (
        TLS + ", cipher_suites: [TLS_AES_128_GCM_SHA256]}\nhttp_server_config: {http2: false}",
        (ONLY12, ONLY13),
    ),
    "one curve": (
        TLS + ", curve_preferences: [CurveP384]}",
        (Asking(), Asking(curve="secp384r1"), Asking(curve="prime256v1")),
    ),
    "server's order of suites": (TLS + ", prefer_server_cipher_suites: true}", (ONLY12,)),
    "client's order of suites": (TLS + ", prefer_server_cipher_suites: false}", (ONLY12,)),
    "no certificate requested": (TLS + ", client_auth_type: NoClientCert}", CLIENTS),
    "clients verified if given": (MTLS + "VerifyClientCertIfGiven}", CLIENTS),
    "clients required": (MTLS + "RequireAndVerifyClientCert}", CLIENTS),
    "clients required, with users": (
        MTLS + "RequireAndVerifyClientCert}\n" + USERS,
        (*CLIENTS, Asking(cert="client", auth="Basic YWRtaW46c2VjcmV0")),
    ),
    "clients required, by a missing CA": (TLS + ", client_auth_type: RequireAndVerifyClientCert}", CLIENTS),
}

REFUSED = {
    "an unknown key": "tls_config: {}",
    "an unknown key inside": "tls_server_config: {cert: x, certificate: y}",
    "not YAML": "tls_server_config: {",
    "a list": "- tls_server_config",
    "a key twice": "http_server_config: {}\nhttp_server_config: {}",
    "a certificate without its key": "tls_server_config: {cert_file: server.pem}",
    "a key without its certificate": "tls_server_config: {key_file: server.key}",
    "a policy without a certificate": "tls_server_config: {client_auth_type: RequireAndVerifyClientCert}",
    "a certificate that is not there": "tls_server_config: {cert_file: none.pem, key_file: server.key}",
    "another's key": "tls_server_config: {cert_file: server.pem, key_file: client.key}",
    "a certificate that is none": "tls_server_config: {cert_file: server.key, key_file: server.key}",
    "a CA without a policy": TLS + ", client_ca_file: ca.pem}",
    "a CA without asking": MTLS + "NoClientCert}",
    "a CA that is not there": TLS + ", client_ca_file: none.pem, client_auth_type: RequireAndVerifyClientCert}",
    "an unknown policy": MTLS + "RequireClientCertificate}",
    "an unknown version": TLS + ", min_version: TLS14}",
    "a version as a number": TLS + ", min_version: 1.2}",
    "an unknown suite": TLS + ", cipher_suites: [ECDHE-RSA-AES128-GCM-SHA256]}",
    "an unsafe suite": TLS + ", cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}",
    "an unknown curve": TLS + ", curve_preferences: [secp256k1]}",
    "a header that may not be set": "http_server_config: {headers: {X-Powered-By: us}}",
    "a header in lower case": "http_server_config: {headers: {x-frame-options: deny}}",
    "a header's unknown value": "http_server_config: {headers: {X-Frame-Options: allow}}",
    "a password that is no hash": "basic_auth_users: {admin: secret}",
    "a user without a password": "basic_auth_users: {admin: }",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the certificates of a server, of a client, and of a client of another authority."""
    place = tmp_path_factory.mktemp("web")
    real_parts.require("prometheus-node-exporter")
    ours = certificates.authority(place, "ca")
    ours.signed("server")
    ours.signed("client", "DNS:client.example")
    certificates.authority(place, "other").signed("stranger")
    return place


@pytest.mark.parametrize("case", ACCEPTED)
def test_the_same_file_means_the_same(folder: Path, case: str, tmp_path: Path) -> None:
    text, asked = ACCEPTED[case]
    file = folder / "web.yml"
    file.write_text(text)
    scheme = "https" if "cert_file" in text else "http"
    with node_exporter(file, tmp_path) as address:
        expected = [answer(folder, f"{scheme}://{address}", asking) for asking in asked]
    with web_server.serving(web_server.idle_context(tmp_path, web=ReloadingWebConfig(file).current_config)) as url:
        answers = [answer(folder, url, asking) for asking in asked]
    assert dict(zip(asked, answers, strict=True)) == dict(zip(asked, expected, strict=True))
    assert (
        any(isinstance(given, dict) and given["status"] in (200, 401) for given in answers)
        or "missing CA" in case
        or "fit" in case
    )


@pytest.mark.parametrize("case", REFUSED)
def test_both_refuse_to_start(folder: Path, case: str, tmp_path: Path) -> None:
    file = folder / "bad.yml"
    file.write_text(REFUSED[case])
    with pytest.raises(ConfigErrors) as caught:
        ReloadingWebConfig(file)
    assert all(line.startswith(f"{file}:") and "secret" not in line for line in caught.value.lines)
    assert not starts(file, tmp_path), "node_exporter takes it"


def answer(folder: Path, url: str, asking: Asking) -> Any:
    """Return what a client sees: the status and the headers that the file configures, or that the connection is refused."""
    try:
        if asking.plain:
            return plain(url)
        with httpx.Client(verify=trusting(folder, asking), timeout=LONGEST_WAIT, trust_env=False) as client:
            headers = {} if asking.auth is None else {"Authorization": asking.auth}
            got = client.get(url + asking.path, headers=headers)
    except httpx.TransportError:
        return "refused"
    # node_exporter's 404 is its own page; it sends nosniff with its own errors
    shown = {name: got.headers.get(name) for name in SHOWN}
    csp = got.headers.get_list("content-security-policy")
    return {"status": got.status_code, "http": got.http_version, "csp": csp[-1:], **shown}


def plain(url: str) -> int:
    """Return the status of an answer to plain HTTP on a TLS port."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=LONGEST_WAIT) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        return int(connection.recv(4096).split()[1])


def trusting(folder: Path, asking: Asking) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=folder / "ca.pem")
    if asking.cert:
        made.load_cert_chain(folder / f"{asking.cert}.pem", folder / f"{asking.cert}.key")
    if asking.ciphers:
        made.set_ciphers(asking.ciphers)
    if asking.curve:
        made.set_ecdh_curve(asking.curve)
    if asking.versions:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made.minimum_version, made.maximum_version = asking.versions
    return made


@contextmanager
def node_exporter(file: Path, place: Path) -> Iterator[str]:
    """Yield the address of a node_exporter once it answers."""
    address = real_parts.free_addresses().prometheus
    with (place / "node.log").open("wb") as log:
        process = subprocess.Popen([*command(file), f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        real_parts.until(lambda: listens(address, process, place), "node_exporter to listen")
        yield address
    finally:
        process.kill()
        process.wait()


def starts(file: Path, place: Path) -> bool:
    """Return whether node_exporter accepts this file."""
    try:
        with node_exporter(file, place):
            return True
    except AssertionError:
        return False


def command(file: Path) -> list[str]:
    binary = str(real_parts.require("prometheus-node-exporter"))
    return [binary, "--collector.disable-defaults", "--web.disable-exporter-metrics", f"--web.config.file={file}"]


def listens(address: str, process: "subprocess.Popen[bytes]", place: Path) -> bool:
    """Return whether it answers. A connection alone is no proof: it listens before it has read its whole file."""
    assert process.poll() is None, (place / "node.log").read_text()
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=LONGEST_WAIT) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(1) != b""
    except OSError:
        return False
