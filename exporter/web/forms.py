"""What people send from the page: log in and out, an action with its options, cancel, pause and resume.

A form counts only with the key of the page that we gave to this very visitor; the gate has turned away what another site sent.
Every form is answered by another page or by a redirect to one, so that a reload sends nothing again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic, time
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from actions.model.errors import Refused
from actions.model.events import Event
from actions.model.options import OptionKind
from actions.model.outcome import EXIT_CODES, Outcome
from actions.model.plan import Figure
from actions.model.request import Option
from actions.runner.catalogue import KNOWN
from actions.runner.manual import offered
from actions.store.database import StoreUnavailable
from exporter.config.tokens import digest
from exporter.log import event
from exporter.page.render import path_of
from exporter.status.dry_runs import TooMany
from exporter.status.operations import UnknownDatabase, Wish
from exporter.text.units import moment
from exporter.web import session_cookie
from exporter.web.authorization import denied, refused, who
from exporter.web.context import Front
from exporter.web.html_pages import Site
from exporter.web.identity import Identity, identity_of
from exporter.web.passwords import Passwords, Verdict
from exporter.web.rate_limit import Failures
from exporter.web.request_body import TooLarge, TooSlow, read_body
from exporter.web.sessions import Sessions
from exporter.web.viewer import is_own_form

Fields = Mapping[str, str]
Handler = Callable[[Request], Awaitable[Response]]
LOG = logging.getLogger(__name__)
MOST_FIELDS = 40
# Wrong tokens or passwords from one address, within so many seconds, before it must wait.
MOST_FAILURES, WITHIN = 5, 60.0


class BadForm(Exception):
    """It is not what our page sends, or it comes too late; the message says so to a person."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """What a dry run said."""

    outcome: str
    ok: bool
    message: str
    next_step: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class _Problem:
    what: str
    next_step: str = ""


class Forms:
    """The forms of one agent."""

    def __init__(self, front: Front, site: Site, sessions: Sessions, passwords: Passwords) -> None:
        self._front, self._site, self._sessions, self._passwords = front, site, sessions, passwords
        self._failures = Failures(MOST_FAILURES, WITHIN)

    async def login_page(self, request: Request) -> Response:
        """Where one logs in."""
        return await self._login(request, request.query_params.get("next", ""))

    async def login(self, request: Request) -> Response:
        """A token, or a user's password, becomes a session. Which of the two was wrong is not told."""
        try:
            fields = await _fields(request)
        except BadForm as error:
            return await self._login(request, "", 400, str(error))
        address = request.client.host if request.client is not None else ""
        target = fields.get("next", "")
        if wait := self._failures.wait(address, monotonic()):
            said = f"Too many attempts failed. Try again in {wait:.0f} s."
            answer = await self._login(request, target, 429, said)
            answer.headers["Retry-After"] = f"{wait:.0f}"
            return answer
        secret = await self._begun(fields, address)
        if not secret:
            self._failures.note(address, monotonic())
            event(LOG, logging.WARNING, "log in failed", address=address)
            return await self._login(request, target, 403, "That is not right, or it gives no right to act.")
        self._failures.forget(address)
        self._sessions.end(identity_of(request).session)
        answer = RedirectResponse(self._front.mount.prefix + _local(target), 303)
        session_cookie.give(answer, secret, request.scope, self._front.mount)
        return answer

    async def logout(self, request: Request) -> Response:
        """End the session."""
        if (no := await self._not_ours(request)) is not None:
            return no
        self._sessions.end(identity_of(request).session)
        answer = RedirectResponse(self._front.mount.prefix + "/", 303)
        session_cookie.take_away(answer, request.scope, self._front.mount)
        return answer

    async def act_page(self, request: Request) -> Response:
        """An action's options."""
        return await self._act(request, {})

    async def act(self, request: Request) -> Response:
        """Plan it, or record the wish and show its run."""
        try:
            fields = await self._sent(request)
        except BadForm as error:
            return await self._act(request, {}, 403, error=_Problem(str(error), "load the page again"))
        if (no := denied(request, self._front.act_right())) is not None:
            return await self._act(request, fields, no.status, error=_Problem(no.reason))
        return await self._wished(request, fields)

    async def cancel(self, request: Request) -> Response:
        """Ask a run to stop, and show it."""
        run_id = request.path_params["id"]

        def end() -> None:
            self._front.cancel(run_id, who(request, self._front.act_right()))

        return await self._done(request, end, f"/runs/{run_id}")

    async def pause(self, request: Request) -> Response:
        """Stop every action from starting."""

        def begin() -> None:
            self._front.pause(f"by {who(request, self._front.act_right())} on the page at {moment(time())}")

        return await self._done(request, begin, "/")

    async def resume(self, request: Request) -> Response:
        """Let actions start again."""
        return await self._done(request, self._front.resume, "/")

    async def _done(self, request: Request, do: Callable[[], object], target: str) -> Response:
        """Do it for who may, then lead on."""
        if (no := await self._not_ours(request)) is not None:
            return no
        if (denial := denied(request, self._front.act_right())) is not None:
            return await self._error(request, denial.status, "Not allowed", f"{denial.reason}.")
        try:
            await run_in_threadpool(do)
        except Refused as error:
            return await self._error(request, 409, "Not done", f"{error.sentence()}.")
        except (KeyError, OverflowError):
            return await self._error(request, 404, "Not found", "There is no such run.")
        except StoreUnavailable as error:
            return await self._error(request, 503, "Not done", f"{error}.")
        return RedirectResponse(self._front.mount.prefix + target, 303)

    async def _wished(self, request: Request, fields: Fields) -> Response:
        database, action = request.path_params["database"], request.path_params["action"]
        known = offered().get(action, {})
        try:
            options = _options(known, fields)
            wish = Wish(database, action, options, who(request, self._front.act_right()))
            if fields.get("do") != "run":
                planned = await run_in_threadpool(self._front.operations.plan, wish)
                return await self._act(request, fields, plan=_planned(planned))
            if KNOWN[action].destructive and fields.get("sure") != "yes":
                return await self._act(request, fields, 400, error=_Problem("say that you know what this does"))
            recorded = await run_in_threadpool(self._front.operations.ask, wish)
        except (Refused, BadForm, UnknownDatabase, TooMany, StoreUnavailable, KeyError) as error:
            return await self._act(request, fields, 409, error=_problem(error))
        return RedirectResponse(f"{self._front.mount.prefix}/runs/{recorded.run_id}", 303)

    async def _act(
        self,
        request: Request,
        fields: Fields,
        code: int = 200,
        *,
        error: _Problem | None = None,
        plan: _Planned | None = None,
    ) -> Response:
        database, action = request.path_params["database"], request.path_params["action"]
        known = offered().get(action)
        if known is None:
            return await run_in_threadpool(self._site.missing, request, "There is no such action here.")
        no = refused(identity_of(request), self._front.act_right())
        if no is not None and code == 200:
            target = f"/databases/{path_of(database)}/act/{action}"
            return RedirectResponse(f"{self._front.mount.prefix}/login?next={path_of(target)}", 303)
        given = {name: fields.get(f"option.{name}", "") for name in known}
        context = {
            "database": database,
            "action": action,
            "options": known,
            "given": given,
            "error": error,
            "plan": plan,
        }
        destructive = KNOWN[action].destructive
        return await run_in_threadpool(
            lambda: self._site.page(request, "act.html", code, destructive=destructive, **context)
        )

    async def _login(self, request: Request, target: str, code: int = 200, error: str = "") -> Response:
        right = self._front.act_right()
        context = {
            "next": _local(target),
            "tokens": right.enabled and bool(right.token_digests),
            "users": right.enabled and bool(right.users & self._front.web().users.keys()),
            "error": error,
        }
        return await run_in_threadpool(lambda: self._site.page(request, "login.html", code, **context))

    async def _begun(self, fields: Fields, address: str) -> str:
        """The secret of a new session; empty when the credential gives no right to act."""
        right, web = self._front.act_right(), self._front.web()
        token, user = fields.get("token", "").strip(), fields.get("user", "")
        if token:
            found = digest(token.encode())
            good = refused(Identity(token=found), right) is None
            return self._sessions.begin(monotonic(), token=found) if good else ""
        if not user:
            return ""
        # before the right: who may act must not be told by the time of an answer
        verdict = await self._passwords.check(web.users, user, fields.get("password", ""), address)
        if verdict is not Verdict.RIGHT or refused(Identity(user=user), right) is not None:
            return ""
        return self._sessions.begin(monotonic(), user=user, hashed=web.users[user])

    async def _sent(self, request: Request) -> Fields:
        """The fields of a form that we gave to this visitor. Raises BadForm."""
        fields = await _fields(request)
        if not is_own_form(request, self._sessions, fields.get("key", "")):
            raise BadForm("this form is not from a page of yours, or your session is over")
        return fields

    async def _not_ours(self, request: Request) -> Response | None:
        try:
            await self._sent(request)
        except BadForm as error:
            return await self._error(request, 403, "Not done", f"{error}.")
        return None

    async def _error(self, request: Request, code: int, title: str, what: str) -> Response:
        return await run_in_threadpool(
            lambda: self._site.page(request, "error.html", code, title=title, what=what[:1].upper() + what[1:])
        )


async def _fields(request: Request) -> Fields:
    """What a form says. Raises BadForm."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise BadForm("only forms of our pages are taken here")
    try:
        text = (await read_body(request)).decode("utf-8")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except (TooLarge, TooSlow, ClientDisconnect, ValueError) as error:
        raise BadForm("the form could not be read") from error


def _options(known: Mapping[str, OptionKind], fields: Fields) -> dict[str, Option]:
    """What was filled in, of the kind that the action wants; the action itself checks what it may be."""
    given = {name: fields.get(f"option.{name}", "").strip() for name in known}
    return {name: _option(name, known[name], text) for name, text in given.items() if text}


def _option(name: str, kind: OptionKind, text: str) -> Option:
    if kind.kind == "flag":
        return text == "true"
    if kind.kind not in ("count", "seconds"):
        return text
    try:
        return int(text) if kind.kind == "count" else float(text)
    except ValueError:
        raise BadForm(f"{name}: {text!r} is not a number: {kind.help}") from None


def _planned(said: Event) -> _Planned:
    outcome = str(said.figures.get("outcome", "failed"))
    figures = {name: value for name, value in said.figures.items() if name not in ("outcome", "next_step")}
    ok = outcome in list(Outcome) and EXIT_CODES[Outcome(outcome)] == 0
    return _Planned(outcome, ok, said.message, str(said.figures.get("next_step") or ""), figures)


def _problem(error: Exception) -> _Problem:
    if isinstance(error, Refused):
        return _Problem(str(error), error.next_step)
    if isinstance(error, TooMany):
        return _Problem("other dry runs are being made", "ask again in a moment")
    return _Problem(str(error))


def _local(target: str) -> str:
    """Where to after the login: a path of ours and nothing else, whatever the address said."""
    plain = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if plain and target.isprintable() and target.isascii() else "/"
