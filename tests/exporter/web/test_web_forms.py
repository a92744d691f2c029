"""Forms, sessions and redirects under attack, on a real server: what another site, an old page or a planted cookie can do."""

import base64
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from exporter import page as page_module
from exporter.config.tokens import token_digest
from exporter.web.address import Mount
from exporter.web.context import ActingRights
from exporter.web.middleware import REFRESH_HEADER
from exporter.web.sessions import COOKIE_NAME, IDLE_LIMIT, LIFETIME_LIMIT, MAX_SESSIONS, SessionStore
from exporter.web_config.reload import ReloadingWebConfig
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import certificates, web_server
from tests.support.scenes.idle_operations import pause_reasons

TOKEN = "correct-horse-battery-staple"
HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users: {{admin: '{HASH}', second: '{HASH}', reader: '{HASH}'}}"


def basic(user: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()}


@dataclass
class Place:
    """A server with a state store, which tells whether it was paused."""

    folder: Path
    right: ActingRights = field(
        default_factory=lambda: ActingRights(
            True, (token_digest(TOKEN.encode()),), frozenset({"admin", "second"}), frozenset({"ops.example"})
        )
    )
    url: str = ""

    @contextmanager
    def serving(self, text: str = "", **changes: Any) -> Iterator["Place"]:
        (self.folder / "web.yml").write_text(text)
        reloading = ReloadingWebConfig(self.folder / "web.yml")
        parts: dict[str, Any] = {
            "acting_rights": lambda: self.right,
            "web": reloading.current_config,
            **changes,
        }
        with web_server.serving(web_server.idle_context(self.folder, **parts)) as self.url:
            yield self

    @property
    def paused(self) -> list[str]:
        """The reason of the pause, if there is one."""
        return pause_reasons(self.folder)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=LONGEST_WAIT, trust_env=False, **options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def log_in(client: httpx.Client, prefix: str = "", **fields: str) -> httpx.Response:
    return client.post(f"{prefix}/login", data=fields or {"token": TOKEN})


def key(client: httpx.Client, path: str = "/") -> str:
    """The key of the first form of a page."""
    match = re.search(r'name="key" value="([^"]+)"', client.get(path).text)
    assert match is not None
    return match[1]


def test_a_session_begins_with_a_new_secret_even_beside_a_planted_cookie(place: Place) -> None:
    with place.serving(), place.client() as client:
        client.cookies.set(COOKIE_NAME, "planted")
        answer = log_in(client)
        given = SimpleCookie(answer.headers["set-cookie"])[COOKIE_NAME]
        assert (answer.status_code, given.value != "planted", len(given.value) >= 43) == (303, True, True)
        assert "Log out" not in client.get("/", headers={"Cookie": f"{COOKIE_NAME}=planted"}).text
        first = given.value
        second = SimpleCookie(log_in(client).headers["set-cookie"])[COOKIE_NAME].value
        assert second != first
        assert "Log out" not in httpx.get(place.url, headers={"Cookie": f"{COOKIE_NAME}={first}"}).text, (
            "it was replaced"
        )


def test_the_cookie_goes_to_us_only_and_no_script_can_read_it(place: Place, tmp_path: Path) -> None:
    with place.serving(), place.client() as client:
        cookie = SimpleCookie(log_in(client).headers["set-cookie"])[COOKIE_NAME]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["secure"]) == (True, "strict", "/", "")
    with place.serving(mount=Mount(prefix="/queues", secure=True)), place.client() as client:
        cookie = SimpleCookie(log_in(client, "/queues").headers["set-cookie"])[f"__Secure-{COOKIE_NAME}"]
        assert (cookie["path"], cookie["secure"]) == ("/queues", True), "behind a proxy that speaks https"
    ca = certificates.authority(tmp_path, "ca")
    ca.signed("server")
    context = ssl.create_default_context(cafile=ca.own.cert)
    tls = "tls_server_config: {cert_file: server.pem, key_file: server.key}"
    with place.serving(tls), place.client(verify=context) as client:
        cookie = SimpleCookie(log_in(client).headers["set-cookie"])[f"__Host-{COOKIE_NAME}"]
        assert (cookie["path"], cookie["secure"], cookie["domain"]) == ("/", True, "")
        assert "Log out" in client.get("/").text
        planted = {"Cookie": f"{COOKIE_NAME}={cookie.value}"}
        assert "Log out" not in httpx.get(place.url, headers=planted, verify=context).text, (
            "a neighbour can set that name"
        )
        client.post("/logout", data={"key": key(client)})
        assert not client.cookies


def test_a_form_without_the_key_of_this_session_is_rejected(place: Place) -> None:
    with place.serving(), place.client() as mine, place.client() as other, place.client() as visitor:
        for client in (mine, other):
            log_in(client)
        wrong_keys = {
            "none": "",
            "another session's": key(other),
            "nonsense": "a.b",
            "an invented one": "x" * 200,
            "ü": "ü",
        }
        for case, form_key in wrong_keys.items():
            assert mine.post("/pause", data={"key": form_key}).status_code == 403, case
        assert visitor.post("/pause", data={"key": key(mine)}).status_code == 403
        kinds = ({"Content-Type": "text/plain"}, {"Content-Type": "application/json"}, {})
        body = f"key={key(mine)}".encode()
        assert {mine.post("/pause", content=body, headers=kind).status_code for kind in kinds} == {403}
        assert place.paused == []
        assert mine.post("/pause", data={"key": key(mine)}).status_code == 303
        assert place.paused[0].startswith("by a token from 127.0.0.1 on the page at ")


def test_what_a_browser_adds_by_itself_needs_the_key_too(place: Place) -> None:
    """The browser adds basic authentication to every request, also to those that another site caused."""
    with place.serving(USERS), place.client(headers=basic("admin")) as client:
        assert client.post("/pause", data={}).status_code == 403
        with place.client(headers=basic("second")) as other:
            assert client.post("/pause", data={"key": key(other)}).status_code == 403, "of another user"
        assert (
            client.post("/pause", data={"key": key(client)}, headers={"Origin": "http://evil.example"}).status_code
            == 403
        )
        assert place.paused == []
        assert client.post("/pause", data={"key": key(client)}).status_code == 303
        assert place.paused[0].startswith("by user admin from")


def test_who_may_read_sees_no_button_and_can_send_nothing(place: Place) -> None:
    with place.serving(USERS), place.client(headers=basic("reader")) as client:
        page = client.get("/").text
        assert "Pause all actions" not in page
        answer = client.get("/databases/x/act/backup")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/databases/x/act/backup")
        assert client.get("/").status_code == 200
        assert place.paused == []


def test_a_reader_logs_in_as_one_who_may_act(place: Place) -> None:
    with place.serving(USERS), place.client(headers=basic("reader")) as client:
        for fields in (
            {"user": "reader", "password": "secret"},
            {"user": "admin", "password": "wrong"},
            {"user": "unknown", "password": "secret"},
            {"user": "admin"},
        ):
            assert log_in(client, **fields).status_code == 403, fields
        assert log_in(client, user="admin", password="secret").status_code == 303
        client.post("/pause", data={"key": key(client)})
        assert place.paused[0].startswith("by user admin from")


def test_a_client_certificate_acts_on_the_page(place: Place, tmp_path: Path) -> None:
    ca = certificates.authority(tmp_path, "ca")
    ca.signed("server")
    mine = ca.signed("mine", "DNS:ops.example")
    context = ssl.create_default_context(cafile=ca.own.cert)
    context.load_cert_chain(mine.cert, mine.key)
    tls = "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem, "
    with place.serving(tls + "client_auth_type: VerifyClientCertIfGiven}"), place.client(verify=context) as client:
        client.post("/pause", data={"key": key(client)})
        assert place.paused[0].startswith("by certificate ops.example from")


def test_a_session_ends_with_its_token_or_password(place: Place) -> None:
    with place.serving(USERS), place.client(headers=basic("reader")) as by_token, place.client(
        headers=basic("reader")
    ) as by_password:  # fmt: skip
        log_in(by_token)
        log_in(by_password, user="admin", password="secret")
        for client in (by_token, by_password):
            assert "Pause all actions" in client.get("/").text
        place.right = ActingRights(True, (token_digest(b"another"),), frozenset({"admin"}))
        assert "Pause all actions" not in by_token.get("/").text, "its token was rotated away"
        assert "Pause all actions" in by_password.get("/").text
        fresh = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        (place.folder / "web.yml").write_text(USERS.replace(f"admin: '{HASH}'", f"admin: '{fresh}'"))
        assert "Pause all actions" not in by_password.get("/").text, "its password was set anew"


def test_logging_out_ends_it_for_whoever_has_the_cookie(place: Place) -> None:
    with place.serving(), place.client() as client:
        log_in(client)
        stolen = client.cookies[COOKIE_NAME]
        assert client.post("/logout", data={"key": key(client)}).status_code == 303
        assert COOKIE_NAME not in client.cookies
        assert "Log out" not in httpx.get(place.url, headers={"Cookie": f"{COOKIE_NAME}={stolen}"}).text


def test_sessions_end_by_idleness_by_age_and_by_number() -> None:
    sessions = SessionStore()
    secret = sessions.begin_session(0, token=b"t")
    assert sessions.find_session(secret, IDLE_LIMIT - 1) is not None
    assert sessions.find_session(secret, 2 * IDLE_LIMIT) is None
    secret, now = sessions.begin_session(0, token=b"t"), 0.0
    while now < LIFETIME_LIMIT:
        assert sessions.find_session(secret, now) is not None
        now += IDLE_LIMIT / 2
    assert sessions.find_session(secret, LIFETIME_LIMIT + 1) is None, "however busy"
    first, *rest = [sessions.begin_session(number, token=b"t") for number in range(MAX_SESSIONS + 1)]
    assert sessions.find_session(first, MAX_SESSIONS) is None
    assert all(sessions.find_session(secret, MAX_SESSIONS) for secret in rest)
    assert sessions.find_session("ü\ud800", 0) is None
    assert not any(secret in str(vars(sessions)) for secret in rest), "only digests are kept"


def test_a_forms_key_is_another_one_each_time_and_fits_one_visitor_only() -> None:
    sessions, others = SessionStore(), SessionStore()
    first, second = sessions.form_key("mine"), sessions.form_key("mine")
    assert first != second
    assert sessions.is_valid_form_key(first, "mine")
    assert sessions.is_valid_form_key(second, "mine")
    for strange in ("", ".", first[:-1], first.upper(), others.form_key("mine"), "ü.ü"):
        assert not sessions.is_valid_form_key(strange, "mine"), strange
    assert not sessions.is_valid_form_key(first, "yours")
    assert not sessions.is_valid_form_key(sessions.form_key("a", "b"), "a\0b", "")


@pytest.mark.parametrize(
    "strange",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: x=1",
        "",
        "x",
        "/ü",
    ],
)
def test_a_log_in_redirects_only_to_our_own_pages(place: Place, strange: str) -> None:
    with place.serving(), place.client() as client:
        answer = log_in(client, token=TOKEN, next=strange)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "set-cookie: x" not in str(answer.headers).lower()


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../pages.py", "/assets/%2e%2e/render.py", "/assets/..%2frender.py", "/assets/%2fetc%2fpasswd", "/assets/",
        "/assets/page.css%00.png", "/databases/../../etc/passwd", "/databases/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/runs/9999999999999999999999", "/history?before=9999999999999999999999",
        "/databases/%ff", "/databases/x/act/destroy", "/databases/a%0d%0ab",
    ],
)  # fmt: skip
def test_no_address_leads_to_a_file_or_breaks_anything(place: Place, path: str) -> None:
    with place.serving(), place.client() as client:
        request = client.build_request("GET", "/", headers={"Accept": "text/html"})
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = client.send(request)
        assert answer.status_code == 404, answer.text
        assert "root:" not in answer.text
        assert "import " not in answer.text


def test_no_name_breaks_out_of_a_header(place: Place) -> None:
    with place.serving(), place.client() as client:
        for name, code in (("a%0d%0aSet-Cookie:%20x=1", 404), ("a%22%3B%20x=1%20%3Ca%3E", 303)):
            answer = client.get(f"/databases/{name}/act/backup")
            assert (answer.status_code, "set-cookie" in answer.headers) == (code, False)
        assert answer.headers["location"] == "/login?next=/databases/a%2522%253B%2520x%253D1%2520%253Ca%253E/act/backup"


def test_an_open_page_does_not_keep_its_session_alive(place: Place) -> None:
    sessions = SessionStore()
    secret, now = sessions.begin_session(0, token=b"t"), 0.0
    while now < IDLE_LIMIT:
        assert sessions.find_session(secret, now, used=False) is not None
        now += IDLE_LIMIT / 4
    assert sessions.find_session(secret, IDLE_LIMIT + 1) is None
    script = (Path(page_module.__file__).parent / "assets" / "page.js").read_text()
    assert f'"{REFRESH_HEADER}"' in script.lower(), "the script sends the header that the middleware reads"


def test_every_page_forbids_what_it_does_not_need(place: Place) -> None:
    with (
        place.serving("http_server_config: {headers: {X-Frame-Options: sameorigin, Content-Security-Policy: sandbox}}"),
        place.client() as client,
    ):
        for path in ("/", "/history", "/login", "/assets/page.js", "/nothing"):
            answer = client.get(path, headers={"Accept": "text/html"})
            ours, theirs = answer.headers.get_list("content-security-policy")
            assert "default-src 'none'" in ours
            assert "unsafe" not in ours
            assert theirs == "sandbox", "the operator's policy is added to ours and does not replace it"
            assert answer.headers["x-frame-options"] == "sameorigin", "the operator decides this one"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
        assert "style=" not in client.get("/").text
        assert "onclick" not in client.get("/").text
        assert client.get("/").headers["cache-control"] == "no-store"
        assert "immutable" in client.get("/assets/page.css").headers["cache-control"]


def test_many_wrong_tokens_are_stopped_and_the_right_one_with_them(place: Place) -> None:
    with place.serving(), place.client() as client:
        codes = [log_in(client, token=f"guess {number}").status_code for number in range(7)]
        assert codes == [403] * 5 + [429] * 2
        answer = log_in(client)
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (429, True)
        assert client.post("/api/v1/pause", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_form_that_is_no_form_is_refused(place: Place) -> None:
    with place.serving(), place.client() as client:
        for body in (b"\xff\xfe=1", b"&".join(b"a%d=1" % number for number in range(100)), b"token=%ff"):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            assert client.post("/login", content=body, headers=headers).status_code == 400, body
