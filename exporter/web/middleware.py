"""The middleware that every request passes first: rate limit, who may read, the operator's headers, path prefix, origin.

The order is that of the exporters' common toolkit: rate limit, headers, password. A valid right to act is accepted in place of
a password, so that an Alertmanager with a token needs no password as well.
"""

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.web.authorization import actor_name
from exporter.web.context import WebContext
from exporter.web.identity import Identity, offered_password, offered_token
from exporter.web.origin import is_cross_site, is_from_browser, is_loopback, may_be_our_host
from exporter.web.passwords import PasswordChecker, PasswordVerdict
from exporter.web.rate_limit import TokenBucket
from exporter.web.session_cookie import session_secret
from exporter.web.sessions import SessionStore
from exporter.web.token_attempts import TokenAttempts, client_address, too_many_requests
from exporter.web_config.settings import WebConfig

_CSP = "Content-Security-Policy"
REFRESH_HEADER = "x-queuekeeper-refresh"
WEBHOOK_PATH = "/api/v1/alerts"
# No answer may be executed as a script, or be embedded in a page of another site.
_DEFAULT_HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class AccessMiddleware:
    """An ASGI application that checks each request and passes it on to another ASGI application."""

    def __init__(self, app: ASGIApp, context: WebContext, passwords: PasswordChecker, sessions: SessionStore) -> None:
        self._app, self._context, self._passwords, self._sessions = app, context, passwords, sessions
        self._rate = TokenBucket()
        self._guesses = TokenAttempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request with an answer, or pass it on."""
        if scope["type"] != "http":
            return
        web, now = self._context.web(), time.monotonic()
        if not self._rate.take_token(web.rate_interval, web.rate_burst, now):
            await PlainTextResponse("Too Many Requests\n", 429)(scope, receive, send)
            return
        send = _add_response_headers(send, web)
        answer = _reject_bad_host_header(scope) or await self._identify_or_reject(scope, web, now)
        if answer is not None:
            await answer(scope, receive, send)
            return
        scope["root_path"] = self._context.mount.prefix
        await self._app(scope, receive, send)

    async def _identify_or_reject(self, scope: Scope, web: WebConfig, now: float) -> Response | None:
        """Store the identity of the client in the request's state, or return the response that rejects the request."""
        headers = Headers(scope=scope)
        if _is_no_longer_allowed(scope, web):
            return PlainTextResponse("Forbidden\n", 403, {"Connection": "close"})
        secret = session_secret(scope, self._context.mount)
        identity = self._with_session(
            self._identity_from_headers(scope), secret, web, now, by_person=_is_from_person(scope, headers)
        )
        if (rejection := self._limit_token_attempts(scope, web, identity)) is not None:
            return rejection
        if web.users:
            answer, user = await self._check_basic_password(scope, web)
            if answer is not None:
                return answer
            identity = _with_user(identity, user)
        scope.setdefault("state", {})["identity"] = identity
        return self._check_route_prefix(scope) or self._check_request_origin(scope, headers)

    def _identity_from_headers(self, scope: Scope) -> Identity:
        return Identity(names=tuple(scope["state"].get("client_names", ())), token=offered_token(scope["headers"]))

    def _with_session(
        self, identity: Identity, secret: str, web: WebConfig, now: float, *, by_person: bool
    ) -> Identity:
        """Return the identity with the credential of the session added, as if each request carried it."""
        session = self._sessions.find_session(secret, now, used=by_person) if secret else None
        if session is None:
            return identity
        user = session.user if session.user and web.users.get(session.user) == session.hashed else ""
        return Identity(user, identity.names, identity.token or session.token, secret)

    def _has_valid_token(self, scope: Scope) -> bool:
        """Return whether the request itself carries a token that gives the right to act: no browser adds one by itself."""
        token = offered_token(scope["headers"])
        return token is not None and bool(actor_name(Identity(token=token), self._context.acting_rights()))

    def _limit_token_attempts(self, scope: Scope, web: WebConfig, identity: Identity) -> Response | None:
        """Return the rejection of a client that sent too many wrong tokens.

        Tokens are only checked where they matter: for acting, and in place of a password.
        """
        if scope["method"] in _SAFE_METHODS and not web.users:
            return None
        answer = self._guesses.check_attempt(scope, identity, self._context.acting_rights())
        if answer is not None and scope["path"] == f"{self._context.mount.prefix}{WEBHOOK_PATH}":
            self._context.count_answer(answer.status_code)
        return answer

    async def _check_basic_password(self, scope: Scope, web: WebConfig) -> tuple[Response | None, str]:
        """Return the rejection of a client that may not read, or None and the name of the user."""
        given = offered_password(scope["headers"])
        if given is None:
            return (None, "") if self._has_valid_token(scope) else (_unauthorized_response(), "")
        address = client_address(scope)
        verdict = await self._passwords.verify_password(web.users, *given, address)
        match verdict:
            case PasswordVerdict.RIGHT:
                return None, given[0]
            case PasswordVerdict.BLOCKED:
                return too_many_requests(self._passwords.failures.wait_seconds(address, time.monotonic())), ""
            case PasswordVerdict.BUSY:
                return PlainTextResponse("Service Unavailable\n", 503, {"Retry-After": "1"}), ""
        return _unauthorized_response(), ""

    def _check_route_prefix(self, scope: Scope) -> Response | None:
        """Return None for a path below the route prefix, a redirect from the root, and 404 for other paths."""
        prefix, path = self._context.mount.prefix, scope["path"]
        if not prefix or path.startswith(prefix + "/"):
            return None
        if path in ("/", prefix):
            return RedirectResponse(prefix + "/", 302)
        return PlainTextResponse("Not Found\n", 404)

    def _check_request_origin(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the rejection of a request that another site sent, or that names a host which is not this server."""
        own = self._context.mount.own_hosts
        reads = scope["method"] in _SAFE_METHODS
        # another site may link here and no more: it may not embed any part of this server in its pages
        if is_cross_site(headers, own) and not (reads and headers.get("sec-fetch-mode") == "navigate"):
            return PlainTextResponse("another site sent this request; nothing was done\n", 403, {"Connection": "close"})
        open_to_all = scope["path"].removeprefix(self._context.mount.prefix) in self._context.mount.open_paths
        server = scope.get("server")
        open_to_this = open_to_all and not is_from_browser(headers)
        if open_to_this or server is None or not is_loopback(server[0]) or self._has_valid_token(scope):
            return None
        host = headers.get("host", "")
        if may_be_our_host(host, own):
            return None
        cure = "if it is right, start with --web.external-url=http://NAME/"
        return PlainTextResponse(f"this is not a name of this server; {cure}\n", 421)


def _is_from_person(scope: Scope, headers: Headers) -> bool:
    """Return whether a person caused the request: an open page refreshes itself, which must not keep its session alive."""
    return REFRESH_HEADER not in headers and not scope["path"].endswith("/api/v1/events")


def _with_user(identity: Identity, user: str) -> Identity:
    """Return the identity with the user of the browser's password, unless a session already names the user."""
    return identity if identity.user else Identity(user, identity.names, identity.token, identity.session)


def _is_no_longer_allowed(scope: Scope, web: WebConfig) -> bool:
    """Return whether the client certificate of an open connection is no longer allowed: connections may live long."""
    names = scope.get("state", {}).get("client_names", ())
    return web.allowed_names is not None and web.allowed_names.isdisjoint(names)


def _reject_bad_host_header(scope: Scope) -> Response | None:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1 or (not hosts and scope["http_version"] == "1.1"):
        return PlainTextResponse("Bad Request: one Host header is needed\n", 400, {"Connection": "close"})
    return None


def _unauthorized_response() -> Response:
    return PlainTextResponse("Unauthorized\n", 401, {"WWW-Authenticate": "Basic", "X-Content-Type-Options": "nosniff"})


def _add_response_headers(send: Send, web: WebConfig) -> Send:
    """Add our headers and the operator's to every answer.

    Ours never weaken theirs: a page has both Content-Security-Policies.
    """

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _DEFAULT_HEADERS.items():
                headers.setdefault(name, value)
            for name, value in web.headers.items():
                if name == _CSP:
                    headers.append(name, value)
                else:
                    headers[name] = value
        await send(message)

    return send_with_headers
