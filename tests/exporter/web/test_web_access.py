"""Access to the web server beyond the comparison with node_exporter: certificate names, rate limit, renewal, rights, origin."""

import asyncio
import base64
import gc
import socket
import ssl
import threading
import time
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from exporter.config.problems import ConfigErrors
from exporter.config.tokens import token_digest
from exporter.status.events import EventListener
from exporter.web import listener as listener_module
from exporter.web import protocol as protocol_module
from exporter.web.address import InvalidMount, Mount, parse_mount
from exporter.web.context import ActingRights
from exporter.web.origin import is_cross_site, is_loopback, may_be_our_host
from exporter.web.passwords import PasswordChecker, PasswordVerdict
from exporter.web.protocol import BoundedProtocol, certificate_names
from exporter.web.rate_limit import FailureLimiter, TokenBucket
from exporter.web_config.reload import ReloadingWebConfig
from tests.support.patience import LONGEST_WAIT
from tests.support.real import real_parts
from tests.support.scenes import certificates, web_server
from tests.support.scenes.certificates import Authority

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key"
MTLS = TLS + ", client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"
TOKEN = "correct-horse-battery-staple"
BASIC = {"Authorization": "Basic " + base64.b64encode(b"admin:secret").decode()}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = certificates.authority(tmp_path_factory.mktemp("ca"), "ca")
    made.signed("server")
    return made


@pytest.fixture
def folder(ca: Authority, tmp_path: Path) -> Path:
    """Return the folder of one test, with the certificates of the server and of its authority."""
    for name in ("ca.pem", "server.pem", "server.key"):
        (tmp_path / name).write_bytes((ca.folder / name).read_bytes())
    return tmp_path


@contextmanager
def serving(folder: Path, text: str, **changes: Any) -> Iterator[str]:
    """Run a server with this web configuration."""
    (folder / "web.yml").write_text(text)
    reloading = ReloadingWebConfig(folder / "web.yml")
    with web_server.serving(web_server.idle_context(folder, web=reloading.current_config, **changes)) as url:
        yield url


def trusting(ca: Authority, pair: certificates.Pair | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca.own.cert)
    if pair is not None:
        made.load_cert_chain(pair.cert, pair.key)
    return made


def status(url: str, context: ssl.SSLContext | bool = True, **headers: str) -> int | str:
    """Return the status of a scrape on a new connection, or `refused`."""
    try:
        return httpx.get(
            f"{url}/metrics", verify=context, headers=headers, timeout=LONGEST_WAIT, trust_env=False
        ).status_code
    except httpx.TransportError:
        return "refused"


def test_only_certificates_with_an_allowed_name_are_let_in(folder: Path, ca: Authority) -> None:
    names = "DNS:alertmanager.example,email:ops@example.org,IP:::1,URI:spiffe://example.org/agent"
    client, other = ca.signed("several", names), ca.signed("one", "DNS:other.example")
    for allowed in ("alertmanager.example", "ops@example.org", "'::1'", "spiffe://example.org/agent"):
        with serving(folder, f"{MTLS}, client_allowed_sans: [unknown, {allowed}]}}") as url:
            assert status(url, trusting(ca, client)) == 200, allowed
            assert [status(url, trusting(ca, other)), status(url, trusting(ca))] == ["refused", "refused"]
    with serving(folder, f"{MTLS}, client_allowed_sans: []}}") as url:
        assert status(url, trusting(ca, client)) == "refused", "an empty list allows no client"


def test_an_address_in_a_certificate_is_compared_as_people_write_it() -> None:
    certificate = {"subjectAltName": (("DNS", "a"), ("IP Address", "0:0:0:0:0:0:0:1"), ("IP Address", "10.0.0.1"))}
    assert certificate_names(certificate) == ("a", "::1", "10.0.0.1")
    assert certificate_names({}) == certificate_names(None) == ()


REFUSED = {
    "RequestClientCert": (MTLS.replace("RequireAndVerify", "Request") + "}", "without verifying"),
    "RequireAnyClientCert": (MTLS.replace("RequireAndVerify", "RequireAny") + "}", "without verifying"),
    "RequireClientCert": (MTLS.replace("RequireAndVerify", "Require") + "}", "without verifying"),
    "names where certificates are optional": (
        MTLS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven") + ", client_allowed_sans: [a]}",
        "needs client_auth_type: RequireAndVerifyClientCert",
    ),
    "several curves": (TLS + ", curve_preferences: [X25519, CurveP256]}", "only one curve"),
    "versions upside down": (TLS + ", min_version: TLS13, max_version: TLS12}", "is above max_version"),
    "suites for no version": (TLS + ", max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]}", "none of these"),
    "a header of two lines": ('http_server_config: {headers: {X-XSS-Protection: "1\\r\\nSet-Cookie: a"}}', "one line"),
    "a rate without a unit": ("rate_limit: {interval: 5, burst: 1}", "is not a duration"),
    "a burst below none": ("rate_limit: {interval: 1s, burst: -1}", "greater than or equal"),
    "an unknown key": ("basic_auth_user: {}", 'did you mean "basic_auth_users"'),
    "yes instead of true": (TLS + ", prefer_server_cipher_suites: yes}", "valid boolean"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_as_written_is_refused_in_words(folder: Path, case: str) -> None:
    text, reason = REFUSED[case]
    (folder / "web.yml").write_text(text)
    with pytest.raises(ConfigErrors) as caught:
        ReloadingWebConfig(folder / "web.yml")
    assert reason in str(caught.value)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(folder: Path) -> None:
    plain = folder / "server.key"
    certificates._openssl("ec", "-in", plain, "-aes256", "-passout", "pass:x", "-out", folder / "locked.key")
    (folder / "web.yml").write_text(TLS.replace("server.key", "locked.key") + "}")
    with pytest.raises(ConfigErrors, match="the key has a passphrase"):
        ReloadingWebConfig(folder / "web.yml")


def test_certificates_can_stand_in_the_file_itself(folder: Path, ca: Authority) -> None:
    def inline(name: str, file: str) -> str:
        return f"  {name}: |\n" + "".join(f"    {line}\n" for line in (folder / file).read_text().splitlines())

    text = "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n"
    text += inline("cert", "server.pem") + inline("key", "server.key") + inline("client_ca", "ca.pem")
    with serving(folder, text) as url:
        assert [status(url, trusting(ca, ca.signed("inline"))), status(url, trusting(ca))] == [200, "refused"]


def test_a_rate_limit_lets_a_burst_through_and_then_says_429(folder: Path) -> None:
    with serving(folder, "rate_limit: {interval: 1h, burst: 3}") as url:
        assert [status(url) for _ in range(5)] == [200, 200, 200, 429, 429]
        (folder / "web.yml").write_text("rate_limit: {interval: 0s, burst: 0}\n")
        assert status(url) == 200, "the limit is lifted without a restart"


def test_a_bucket_fills_again_one_at_each_interval() -> None:
    rate = TokenBucket()
    assert [rate.take_token(10, 2, at) for at in (0, 0, 0, 9, 10, 10, 35, 35, 35)] == [
        True, True, False, False, True, False, True, True, False,
    ]  # fmt: skip
    assert rate.take_token(10, 0, 100) is False, "a burst of 0 lets no request through"
    assert rate.take_token(0, 0, 100)


def test_renewing_the_certificate_under_load_drops_no_scrape(folder: Path, ca: Authority) -> None:
    renewed = [ca.signed(f"renewed{number}", serial=100 + number) for number in range(6)]
    seen: Counter[int | str] = Counter()
    done = threading.Event()

    def scrape(url: str, context: ssl.SSLContext) -> None:
        while not done.is_set():
            seen[status(url, context)] += 1

    with serving(folder, TLS + "}") as url, ExitStack() as stack:
        threads = [threading.Thread(target=scrape, args=(url, trusting(ca))) for _ in range(3)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join, 20)
        stack.callback(done.set)
        for number, pair in enumerate(renewed):
            (folder / "server.pem").write_bytes(pair.cert.read_bytes())  # for a moment it does not fit the key
            before = seen.total()
            real_parts.until(lambda before=before: seen.total() > before + 3, "scrapes with a certificate of no key")
            (folder / "server.key").write_bytes(pair.key.read_bytes())
            real_parts.until(lambda number=number: serial(url) == 100 + number, "the new certificate")
    assert set(seen) == {200}
    assert seen[200] > 20


def serial(url: str) -> int:
    """Return the serial number of the certificate that the server sends now."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    shown = ssl.get_server_certificate((host, int(port)), timeout=LONGEST_WAIT)
    done = certificates.subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, text=True, check=True
    )
    return int(done.stdout.strip().removeprefix("serial="), 16)


def test_a_file_that_cannot_be_used_leaves_the_last_good_one(
    folder: Path, ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    users = f"}}\nbasic_auth_users: {{admin: '{HASH}'}}"
    (folder / "web.yml").write_text(TLS + users)
    reloading = ReloadingWebConfig(folder / "web.yml")
    good = reloading.current_config()
    for bad in ("{", "", f"basic_auth_users: {{admin: '{HASH}'}}", TLS.replace("server.pem", "later.pem") + users):
        (folder / "web.yml").write_text(bad)
        assert reloading.current_config() is good, bad
        assert reloading.problems, bad
    logged = " ".join(str(vars(record)) for record in caplog.records)
    assert "switching TLS on or off needs a restart" in logged
    assert HASH not in logged
    (folder / "later.pem").write_bytes((folder / "server.pem").read_bytes())
    real_parts.until(lambda: reloading.current_config() is not good, "the file that was missing to be found")
    assert reloading.problems == ()
    assert reloading.current_config() is reloading.current_config(), "nothing is read again without a change"


def test_a_new_user_and_a_removed_one_count_at_once(folder: Path) -> None:
    with serving(folder, f"basic_auth_users: {{admin: '{HASH}'}}") as url:
        assert [status(url, **BASIC), status(url, **BASIC), status(url)] == [200, 200, 401]
        (folder / "web.yml").write_text(f"basic_auth_users: {{other: '{HASH}'}}\n")
        assert status(url, **BASIC) == 401


RIGHT = ActingRights(True, (token_digest(TOKEN.encode()),), frozenset({"admin"}), frozenset({"alertmanager.example"}))


def pause(url: str, context: ssl.SSLContext | bool = True, **headers: str) -> tuple[int, str]:
    answer = httpx.post(f"{url}/api/v1/pause", headers=headers, verify=context, timeout=LONGEST_WAIT, trust_env=False)
    return answer.status_code, answer.text


def test_a_user_with_the_right_password_acts_only_where_the_configuration_says_so(folder: Path) -> None:
    text = f"basic_auth_users: {{admin: '{HASH}', reader: '{HASH}'}}"
    reader = {"Authorization": "Basic " + base64.b64encode(b"reader:secret").decode()}
    with serving(folder, text, acting_rights=lambda: RIGHT) as url:
        code, body = pause(url, **BASIC)
        assert (code, "user admin from 127.0.0.1" in body) == (200, True)
        code, body = pause(url, **reader)
        assert (code, "user reader may read but not act" in body) == (403, True)
        assert status(url, **reader) == 200
        assert pause(url)[0] == 401


def test_a_token_opens_the_door_that_asks_for_a_password(folder: Path) -> None:
    with serving(folder, f"basic_auth_users: {{admin: '{HASH}'}}", acting_rights=lambda: RIGHT) as url:
        assert pause(url, **BEARER)[0] == 200
        assert pause(url, Authorization="Bearer wrong")[0] == 401
    with serving(folder, f"basic_auth_users: {{admin: '{HASH}'}}", acting_rights=lambda: ActingRights(False)) as url:
        assert pause(url, **BEARER)[0] == 401, "where acting is off a token is worth nothing"


def test_a_client_certificate_acts_only_where_the_configuration_names_it(folder: Path, ca: Authority) -> None:
    named = ca.signed("alertmanager", "DNS:alertmanager.example")
    other = ca.signed("scraper", "DNS:scraper.example")
    with serving(folder, MTLS + "}", acting_rights=lambda: RIGHT) as url:
        code, body = pause(url, trusting(ca, named))
        assert (code, "certificate alertmanager.example" in body) == (200, True)
        code, body = pause(url, trusting(ca, other))
        assert (code, "scraper.example may read but not act" in body) == (403, True)
        assert status(url, trusting(ca, other)) == 200


def test_below_a_prefix_everything_moves(folder: Path) -> None:
    place = Mount("/scrape", "/queues", frozenset({"ops.example"}))
    with web_server.serving(web_server.idle_context(folder, mount=place)) as url, httpx.Client(base_url=url) as client:
        paths = ("/queues/scrape", "/queues/-/ready", "/queues/", "/scrape", "/-/ready", "/queuesx/scrape", "/metrics")
        assert [client.get(path).status_code for path in paths] == [200, 200, 200, 404, 404, 404, 404]
        assert [client.get(path).headers.get("location") for path in ("/", "/queues")] == ["/queues/", "/queues/"]
        assert 'href="/queues/scrape"' in client.get("/queues/").text


def test_words_of_the_command_line_become_a_mount() -> None:
    assert parse_mount("/metrics", None, None) == Mount()
    assert parse_mount("m", None, "https://ops.example:8443/queues/") == Mount(
        "/m", "/queues", frozenset({"ops.example:8443"}), secure=True
    )
    assert parse_mount("/metrics", "/", "https://ops.example/queues").prefix == ""
    for wrong in (
        ("/metrics", None, "ops.example"),
        ("/m{x}", None, None),
        ("/metrics", "//x?", None),
        ("/a b", "", None),
    ):
        with pytest.raises(InvalidMount):
            parse_mount(*wrong)


def test_a_form_of_another_site_is_rejected_with_any_headers(folder: Path) -> None:
    with serving(folder, f"basic_auth_users: {{admin: '{HASH}'}}", acting_rights=lambda: RIGHT) as url:
        host = url.removeprefix("http://")
        for strange in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://{host}.evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Origin": url},
        ):
            assert pause(url, **BASIC, **strange)[0] == 403, strange
        assert pause(url, **BASIC, Origin=url, **{"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_on_loopback_a_foreign_host_name_gets_no_answer(folder: Path) -> None:
    """DNS rebinding: the browser takes the attacker's page and this server for one site."""
    with (
        web_server.serving(web_server.idle_context(folder, acting_rights=lambda: RIGHT)) as url,
        httpx.Client(base_url=url) as client,
    ):
        rebound = {"Host": "evil.example:9977"}
        assert [client.get(path, headers=rebound).status_code for path in ("/", "/api/v1/runs")] == [421, 421]
        assert (
            client.post("/api/v1/pause", headers={**rebound, "Origin": "http://evil.example:9977"}).status_code == 421
        )
        assert client.get("/metrics", headers=rebound).status_code == 200, "a scraper knows us by many names"
        assert client.post("/api/v1/pause", headers={**rebound, **BEARER}).status_code == 200, "nor has it a token"
        guess = {**rebound, "Authorization": "Bearer guess"}
        assert client.get("/", headers=guess).status_code == 421, "a page of theirs can send any header it likes"
        for host in ("localhost:1", "127.0.0.1", "[::1]:9977", socket.gethostname(), "queue.localhost"):
            assert client.get("/", headers={"Host": host}).status_code == 200, host


def test_names_that_can_be_ours() -> None:
    assert may_be_our_host("ops.example:8443", frozenset({"ops.example:8443"}))
    assert may_be_our_host("OPS.example", frozenset({"ops.example:8443"}))
    for strange in ("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:80", "[]"):
        assert not may_be_our_host(strange, frozenset({"ops.example"})), strange
    assert [is_loopback(address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "::", "")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert is_cross_site({"origin": "https://ops.example", "host": "127.0.0.1:9977"}, frozenset()) is True
    assert (
        is_cross_site({"origin": "https://ops.example", "host": "127.0.0.1:9977"}, frozenset({"ops.example"})) is False
    )


def test_a_request_without_a_host_or_with_two_is_refused(folder: Path) -> None:
    with web_server.serving(web_server.idle_context(folder)) as url:
        for head in (b"", b"Host: a\r\nHost: 127.0.0.1\r\n"):
            assert raw(url, b"GET /metrics HTTP/1.1\r\n" + head + b"\r\n").startswith(b"HTTP/1.1 400")


def test_a_request_with_two_lengths_is_rejected(folder: Path) -> None:
    """Request smuggling: a proxy in front of the server may use the other one."""
    with web_server.serving(web_server.idle_context(folder)) as url:
        both = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        twice = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n"
        for sent in (both, twice):
            assert raw(url, sent + b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 400")


def raw(url: str, sent: bytes) -> bytes:
    """Return the whole answer."""
    host, _, port = url.rpartition("//")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=LONGEST_WAIT) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def test_a_client_that_says_nothing_holds_up_nobodys_handshake(
    folder: Path, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "MAX_HANDSHAKES", 20)
    monkeypatch.setattr(listener_module, "HANDSHAKE_DEADLINE", 5.0)  # a busy machine shakes hands in that time
    with serving(folder, TLS + "}") as url, ExitStack() as stack:
        host, _, port = url.removeprefix("https://").rpartition(":")
        silent = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=LONGEST_WAIT)) for _ in range(60)
        ]
        for connection in silent[30:]:
            connection.sendall(b"\x16\x03\x01")  # a handshake that never goes on
        assert status(url, trusting(ca)) == 200
        assert silent[0].recv(10) == b"", "the oldest had to make room"
        assert silent[-1].recv(10) == b"", "the others are closed when their time is over"


def test_an_answer_that_nobody_takes_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "WRITE_DEADLINE", 0.3)
    large = web_server.MetricsPage(b"x" * 50_000_000, "text/plain")
    with web_server.serving(web_server.idle_context(folder, render=lambda *_: large)) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=LONGEST_WAIT) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.2)
            assert slowly_taken(connection) < len(large.body)
        assert httpx.get(f"{url}/-/healthy").status_code == 200


def slowly_taken(one: socket.socket) -> int:
    """Read the answer slowly until the server closes the connection; return the number of bytes read."""
    received = 0
    try:
        while part := one.recv(100_000):
            received += len(part)
            time.sleep(0.05)
    except ConnectionResetError:
        pass
    return received


def test_a_body_that_nobody_reads_does_not_keep_the_connection(folder: Path) -> None:
    with web_server.serving(web_server.idle_context(folder)) as url:
        answer = raw(
            url, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 209715200\r\n\r\n" + b"x" * 1000
        )
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "head",
    ["GET /metrics", "POST /api/v1/alerts", "POST /login"],
)
@pytest.mark.parametrize(
    "length", ["Content-Length: 209715200\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"]
)
def test_what_a_stranger_sent_is_given_back_at_once(folder: Path, head: str, length: str) -> None:
    """The agent searches for cycles seldom, so a connection in a cycle would stay in memory together with its body."""
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    sent = f"{head} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{form}{length}".encode()
    with serving(folder, TLS + "}", acting_rights=lambda: RIGHT) as url:
        host, _, port = url.removeprefix("https://").rpartition(":")
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                with suppress(OSError):
                    send((host, int(port)), context, sent + b"x" * 8_000_000)
            real_parts.until(lambda: not alive(BoundedProtocol, SSLProtocol), "every connection to be gone")
        finally:
            gc.enable()


def send(address: tuple[str, int], context: ssl.SSLContext, sent: bytes) -> None:
    plain = socket.create_connection(address, timeout=LONGEST_WAIT)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(sent)


def test_an_event_stream_that_is_left_is_given_back_at_once(folder: Path) -> None:
    with web_server.serving(web_server.idle_context(folder)) as url:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                with httpx.stream("GET", f"{url}/api/v1/events") as answer:
                    assert next(answer.iter_lines()) == "retry: 3000"
            real_parts.until(lambda: not alive(BoundedProtocol, EventListener), "every stream to be gone")
        finally:
            gc.enable()


def alive(*kinds: type) -> list[object]:
    return [item for item in gc.get_objects() if isinstance(item, kinds)]


def test_a_head_that_is_too_long_is_told_so(folder: Path) -> None:
    with web_server.serving(web_server.idle_context(folder)) as url, httpx.Client(base_url=url) as client:
        with pytest.raises((httpx.HTTPStatusError, httpx.TransportError)):
            client.get("/metrics", headers={"X": "y" * 1024 * 1024}).raise_for_status()
        assert client.get("/metrics", headers={"X": "y" * 10_000}).status_code == 200


def checked(passwords: PasswordChecker, *asked: tuple[str, str], address: str = "10.0.0.1") -> list[PasswordVerdict]:
    async def all_at_once() -> list[PasswordVerdict]:
        return list(
            await asyncio.gather(
                *(passwords.verify_password({"a": HASH}, *credentials, address) for credentials in asked)
            )
        )

    return asyncio.run(all_at_once())


def test_passwords_are_remembered_but_never_kept() -> None:
    passwords = PasswordChecker()
    assert checked(passwords, ("a", "secret"), ("a", "x"), ("b", "secret"), ("a", "s" * 100), ("a", "s\0")) == [
        PasswordVerdict.RIGHT, PasswordVerdict.WRONG, PasswordVerdict.WRONG, PasswordVerdict.WRONG, PasswordVerdict.WRONG,
    ]  # fmt: skip
    assert "'secret'" not in repr(vars(passwords))
    passwords._worker.shutdown()  # from now on nothing can be computed any more
    assert checked(passwords, ("a", "secret"), ("a", "x")) == [PasswordVerdict.RIGHT, PasswordVerdict.WRONG]


def test_a_client_that_guesses_must_wait_and_no_other() -> None:
    passwords = PasswordChecker()
    for number in range(10):
        assert checked(passwords, ("a", f"guess {number}")) == [PasswordVerdict.WRONG]
    assert checked(passwords, ("a", "secret")) == [PasswordVerdict.BLOCKED]
    assert checked(passwords, ("a", "secret"), address="10.0.0.2") == [PasswordVerdict.RIGHT]
    assert checked(passwords, ("a", "secret")) == [PasswordVerdict.RIGHT], "what is known to be right needs no guessing"


def test_a_crowd_of_guesses_is_turned_away_before_it_costs_anything() -> None:
    async def crowd() -> Counter[PasswordVerdict]:
        passwords = PasswordChecker()
        asked = (passwords.verify_password({"a": HASH}, "a", f"{number}", f"10.0.{number}.1") for number in range(200))
        return Counter(await asyncio.gather(*asked))

    assert asyncio.run(crowd()) == {PasswordVerdict.WRONG: 32, PasswordVerdict.BUSY: 168}


def test_an_unknown_user_name_takes_as_long_as_a_known_one() -> None:
    costly = bcrypt.hashpw(b"secret", bcrypt.gensalt(9)).decode()

    def seconds(user: str) -> float:
        async def once() -> float:
            passwords = PasswordChecker()
            begun = time.process_time()
            await passwords.verify_password({"a": costly}, user, "guess", "")
            return time.process_time() - begun

        return min(asyncio.run(once()) for _ in range(5))

    known, unknown = seconds("a"), seconds("unknown")
    assert 0.5 < known / unknown < 2, (known, unknown)


def test_failures_are_counted_by_household_and_forgotten_in_time() -> None:
    failures = FailureLimiter(2, 60)
    for at in (0.0, 10.0):
        failures.record_failure("2001:db8::1", at)
    assert failures.wait_seconds("2001:db8::2", 20) == 50
    assert failures.wait_seconds("2001:db8:0:1::1", 20) == 0
    assert failures.wait_seconds("2001:db8::1", 70) == 0
    failures.clear_failures("2001:db8::3")
    assert failures.wait_seconds("2001:db8::1", 20) == 0
