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
from actions.model.options import ActionOption
from actions.model.outcome import EXIT_CODES, Outcome
from actions.model.plan import Figure
from actions.model.request import Option
from actions.runner.catalogue import ACTION_SPECS
from actions.runner.manual import remote_actions
from actions.store.database import StoreUnavailable
from exporter.config.tokens import token_digest
from exporter.log import log_event
from exporter.page.render import url_path
from exporter.status.dry_runs import TooManyDryRuns
from exporter.status.operations import OperatorRequest, UnknownDatabase
from exporter.text.units import format_time
from exporter.web import session_cookie
from exporter.web.authorization import actor_with_address, identity_denial, request_denial
from exporter.web.context import WebContext
from exporter.web.html_pages import HtmlPages
from exporter.web.identity import Identity, identity_of
from exporter.web.passwords import PasswordChecker, PasswordVerdict
from exporter.web.rate_limit import FailureLimiter
from exporter.web.request_body import BodyTooLarge, BodyTooSlow, read_body
from exporter.web.sessions import SessionStore
from exporter.web.viewer import is_own_form

Fields = Mapping[str, str]
Handler = Callable[[Request], Awaitable[Response]]
LOG = logging.getLogger(__name__)
MAX_FORM_FIELDS = 40
# Wrong tokens or passwords from one address, within so many seconds, before it must wait.
MAX_LOGIN_FAILURES, LOGIN_FAILURE_WINDOW = 5, 60.0


class InvalidForm(Exception):
    """It is not what our page sends, or it comes too late; the message says so to a person."""


@dataclass(frozen=True, slots=True)
class _DryRunResult:
    """What a dry run said."""

    outcome: str
    ok: bool
    message: str
    next_step: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class _FormProblem:
    what: str
    next_step: str = ""


class PageForms:
    """The forms of one agent."""

    def __init__(self, front: WebContext, site: HtmlPages, sessions: SessionStore, passwords: PasswordChecker) -> None:
        self._front, self._site, self._sessions, self._passwords = front, site, sessions, passwords
        self._failures = FailureLimiter(MAX_LOGIN_FAILURES, LOGIN_FAILURE_WINDOW)

    async def show_login(self, request: Request) -> Response:
        """Where one logs in."""
        return await self._login_page(request, request.query_params.get("next", ""))

    async def log_in(self, request: Request) -> Response:
        """A token, or a user's password, becomes a session. Which of the two was wrong is not told."""
        try:
            fields = await _read_fields(request)
        except InvalidForm as error:
            return await self._login_page(request, "", 400, str(error))
        address = request.client.host if request.client is not None else ""
        target = fields.get("next", "")
        if wait := self._failures.wait_seconds(address, monotonic()):
            said = f"Too many attempts failed. Try again in {wait:.0f} s."
            answer = await self._login_page(request, target, 429, said)
            answer.headers["Retry-After"] = f"{wait:.0f}"
            return answer
        secret = await self._begin_session(fields, address)
        if not secret:
            self._failures.record_failure(address, monotonic())
            log_event(LOG, logging.WARNING, "log in failed", address=address)
            return await self._login_page(request, target, 403, "That is not right, or it gives no right to act.")
        self._failures.clear_failures(address)
        self._sessions.end_session(identity_of(request).session)
        answer = RedirectResponse(self._front.mount.prefix + _local_path(target), 303)
        session_cookie.set_session_cookie(answer, secret, request.scope, self._front.mount)
        return answer

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        if (no := await self._reject_foreign_form(request)) is not None:
            return no
        self._sessions.end_session(identity_of(request).session)
        answer = RedirectResponse(self._front.mount.prefix + "/", 303)
        session_cookie.delete_session_cookie(answer, request.scope, self._front.mount)
        return answer

    async def show_action(self, request: Request) -> Response:
        """An action's options."""
        return await self._action_page(request, {})

    async def submit_action(self, request: Request) -> Response:
        """Plan it, or record the wish and show its run."""
        try:
            fields = await self._read_own_form(request)
        except InvalidForm as error:
            return await self._action_page(request, {}, 403, error=_FormProblem(str(error), "load the page again"))
        if (no := request_denial(request, self._front.act_right())) is not None:
            return await self._action_page(request, fields, no.status, error=_FormProblem(no.reason))
        return await self._plan_or_request(request, fields)

    async def cancel_run(self, request: Request) -> Response:
        """Ask a run to stop, and show it."""
        run_id = request.path_params["id"]

        def request_cancel() -> None:
            self._front.cancel(run_id, actor_with_address(request, self._front.act_right()))

        return await self._run_control(request, request_cancel, f"/runs/{run_id}")

    async def pause_actions(self, request: Request) -> Response:
        """Stop every action from starting."""

        def begin_pause() -> None:
            self._front.pause(
                f"by {actor_with_address(request, self._front.act_right())} on the page at {format_time(time())}"
            )

        return await self._run_control(request, begin_pause, "/")

    async def resume_actions(self, request: Request) -> Response:
        """Let actions start again."""
        return await self._run_control(request, self._front.resume, "/")

    async def _run_control(self, request: Request, do: Callable[[], object], target: str) -> Response:
        """Do it for who may, then lead on."""
        if (no := await self._reject_foreign_form(request)) is not None:
            return no
        if (denial := request_denial(request, self._front.act_right())) is not None:
            return await self._error_page(request, denial.status, "Not allowed", f"{denial.reason}.")
        try:
            await run_in_threadpool(do)
        except Refused as error:
            return await self._error_page(request, 409, "Not done", f"{error.message_with_next_step()}.")
        except (KeyError, OverflowError):
            return await self._error_page(request, 404, "Not found", "There is no such run.")
        except StoreUnavailable as error:
            return await self._error_page(request, 503, "Not done", f"{error}.")
        return RedirectResponse(self._front.mount.prefix + target, 303)

    async def _plan_or_request(self, request: Request, fields: Fields) -> Response:
        database, action = request.path_params["database"], request.path_params["action"]
        known = remote_actions().get(action, {})
        try:
            options = _parse_options(known, fields)
            wish = OperatorRequest(database, action, options, actor_with_address(request, self._front.act_right()))
            if fields.get("do") != "run":
                planned = await run_in_threadpool(self._front.operations.plan, wish)
                return await self._action_page(request, fields, plan=_dry_run_result(planned))
            if ACTION_SPECS[action].needs_fresh_backup and fields.get("sure") != "yes":
                return await self._action_page(
                    request, fields, 400, error=_FormProblem("say that you know what this does")
                )
            recorded = await run_in_threadpool(self._front.operations.request_run, wish)
        except (Refused, InvalidForm, UnknownDatabase, TooManyDryRuns, StoreUnavailable, KeyError) as error:
            return await self._action_page(request, fields, 409, error=_form_problem(error))
        return RedirectResponse(f"{self._front.mount.prefix}/runs/{recorded.run_id}", 303)

    async def _action_page(
        self,
        request: Request,
        fields: Fields,
        code: int = 200,
        *,
        error: _FormProblem | None = None,
        plan: _DryRunResult | None = None,
    ) -> Response:
        database, action = request.path_params["database"], request.path_params["action"]
        known = remote_actions().get(action)
        if known is None:
            return await run_in_threadpool(self._site.render_not_found, request, "There is no such action here.")
        no = identity_denial(identity_of(request), self._front.act_right())
        if no is not None and code == 200:
            target = f"/databases/{url_path(database)}/act/{action}"
            return RedirectResponse(f"{self._front.mount.prefix}/login?next={url_path(target)}", 303)
        given = {name: fields.get(f"option.{name}", "") for name in known}
        context = {
            "database": database,
            "action": action,
            "options": known,
            "given": given,
            "error": error,
            "plan": plan,
        }
        destructive = ACTION_SPECS[action].needs_fresh_backup
        return await run_in_threadpool(
            lambda: self._site.render_page(request, "act.html", code, destructive=destructive, **context)
        )

    async def _login_page(self, request: Request, target: str, code: int = 200, error: str = "") -> Response:
        right = self._front.act_right()
        context = {
            "next": _local_path(target),
            "tokens": right.enabled and bool(right.token_digests),
            "users": right.enabled and bool(right.users & self._front.web().users.keys()),
            "error": error,
        }
        return await run_in_threadpool(lambda: self._site.render_page(request, "login.html", code, **context))

    async def _begin_session(self, fields: Fields, address: str) -> str:
        """The secret of a new session; empty when the credential gives no right to act."""
        right, web = self._front.act_right(), self._front.web()
        token, user = fields.get("token", "").strip(), fields.get("user", "")
        if token:
            found = token_digest(token.encode())
            good = identity_denial(Identity(token=found), right) is None
            return self._sessions.begin_session(monotonic(), token=found) if good else ""
        if not user:
            return ""
        # before the right: who may act must not be told by the time of an answer
        verdict = await self._passwords.verify_password(web.users, user, fields.get("password", ""), address)
        if verdict is not PasswordVerdict.RIGHT or identity_denial(Identity(user=user), right) is not None:
            return ""
        return self._sessions.begin_session(monotonic(), user=user, hashed=web.users[user])

    async def _read_own_form(self, request: Request) -> Fields:
        """The fields of a form that we gave to this visitor. Raises BadForm."""
        fields = await _read_fields(request)
        if not is_own_form(request, self._sessions, fields.get("key", "")):
            raise InvalidForm("this form is not from a page of yours, or your session is over")
        return fields

    async def _reject_foreign_form(self, request: Request) -> Response | None:
        try:
            await self._read_own_form(request)
        except InvalidForm as error:
            return await self._error_page(request, 403, "Not done", f"{error}.")
        return None

    async def _error_page(self, request: Request, code: int, title: str, what: str) -> Response:
        return await run_in_threadpool(
            lambda: self._site.render_page(request, "error.html", code, title=title, what=what[:1].upper() + what[1:])
        )


async def _read_fields(request: Request) -> Fields:
    """What a form says. Raises BadForm."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise InvalidForm("only forms of our pages are taken here")
    try:
        text = (await read_body(request)).decode("utf-8")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict"))
    except (BodyTooLarge, BodyTooSlow, ClientDisconnect, ValueError) as error:
        raise InvalidForm("the form could not be read") from error


def _parse_options(known: Mapping[str, ActionOption], fields: Fields) -> dict[str, Option]:
    """What was filled in, of the kind that the action wants; the action itself checks what it may be."""
    given = {name: fields.get(f"option.{name}", "").strip() for name in known}
    return {name: _parse_option(name, known[name], text) for name, text in given.items() if text}


def _parse_option(name: str, kind: ActionOption, text: str) -> Option:
    if kind.kind == "flag":
        return text == "true"
    if kind.kind not in ("count", "seconds"):
        return text
    try:
        return int(text) if kind.kind == "count" else float(text)
    except ValueError:
        raise InvalidForm(f"{name}: {text!r} is not a number: {kind.help}") from None


def _dry_run_result(said: Event) -> _DryRunResult:
    outcome = str(said.figures.get("outcome", "failed"))
    figures = {name: value for name, value in said.figures.items() if name not in ("outcome", "next_step")}
    ok = outcome in list(Outcome) and EXIT_CODES[Outcome(outcome)] == 0
    return _DryRunResult(outcome, ok, said.message, str(said.figures.get("next_step") or ""), figures)


def _form_problem(error: Exception) -> _FormProblem:
    if isinstance(error, Refused):
        return _FormProblem(str(error), error.next_step)
    if isinstance(error, TooManyDryRuns):
        return _FormProblem("other dry runs are being made", "ask again in a moment")
    return _FormProblem(str(error))


def _local_path(target: str) -> str:
    """Where to after the login: a path of ours and nothing else, whatever the address said."""
    plain = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if plain and target.isprintable() and target.isascii() else "/"
