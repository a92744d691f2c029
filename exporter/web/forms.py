"""The forms of the pages: log in and out, an action with its options, cancel, pause and resume.

A form is accepted only with the key of a page that was rendered for this viewer; the middleware has rejected what another site
sent. Every form is answered with another page or a redirect to one, so that a reload sends nothing again.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
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
from exporter.page.render import quote_url_path
from exporter.status.dry_runs import TooManyDryRuns
from exporter.status.operations import OperatorRequest, UnknownDatabase
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
LOG = logging.getLogger(__name__)
MAX_FORM_FIELDS = 40
# How many wrong tokens or passwords one address may send within so many seconds before it must wait.
MAX_LOGIN_FAILURES, LOGIN_FAILURE_WINDOW = 5, 60.0


class InvalidForm(Exception):
    """A form was not sent by one of our pages, or too late; the message is for a person."""


@dataclass(frozen=True, slots=True)
class _DryRunResult:
    """The result of a dry run, as the page shows it."""

    outcome: str
    ok: bool
    message: str
    next_step: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class _FormProblem:
    """A problem with a form and what to do about it, as the page shows it."""

    what: str
    next_step: str = ""


class PageForms:
    """The handlers of one agent's forms."""

    def __init__(
        self, context: WebContext, pages: HtmlPages, sessions: SessionStore, passwords: PasswordChecker
    ) -> None:
        self._context, self._pages, self._sessions, self._passwords = context, pages, sessions, passwords
        self._failures = FailureLimiter(MAX_LOGIN_FAILURES, LOGIN_FAILURE_WINDOW)

    async def show_login_form(self, request: Request) -> Response:
        """Show the form to log in."""
        return await self._render_login_page(request, request.query_params.get("next", ""))

    async def log_in(self, request: Request) -> Response:
        """Begin a session for a valid token or password. The answer does not say which of the two was wrong."""
        try:
            fields = await _read_form_fields(request)
        except InvalidForm as error:
            return await self._render_login_page(request, "", 400, str(error))
        address = request.client.host if request.client is not None else ""
        target = fields.get("next", "")
        if wait := self._failures.wait_seconds(address, monotonic()):
            message = f"Too many attempts failed. Try again in {wait:.0f} s."
            answer = await self._render_login_page(request, target, 429, message)
            answer.headers["Retry-After"] = f"{wait:.0f}"
            return answer
        secret = await self._begin_session(fields, address)
        if not secret:
            self._failures.record_failure(address, monotonic())
            log_event(LOG, logging.WARNING, "log in failed", address=address)
            return await self._render_login_page(
                request, target, 403, "This token or password is wrong, or gives no right to act."
            )
        self._failures.clear_failures(address)
        self._sessions.end_session(identity_of(request).session)
        answer = RedirectResponse(self._context.mount.prefix + _local_redirect_path(target), 303)
        session_cookie.set_session_cookie(answer, secret, request.scope, self._context.mount)
        return answer

    async def log_out(self, request: Request) -> Response:
        """End the session and delete its cookie."""
        if (rejection := await self._reject_foreign_form(request)) is not None:
            return rejection
        self._sessions.end_session(identity_of(request).session)
        answer = RedirectResponse(self._context.mount.prefix + "/", 303)
        session_cookie.delete_session_cookie(answer, request.scope, self._context.mount)
        return answer

    async def show_action_form(self, request: Request) -> Response:
        """Show the form with an action's options."""
        return await self._render_action_page(request, {})

    async def submit_action_form(self, request: Request) -> Response:
        """Plan the action, or enqueue a run and show it."""
        try:
            fields = await self._read_own_form(request)
        except InvalidForm as error:
            return await self._render_action_page(
                request, {}, 403, error=_FormProblem(str(error), "load the page again")
            )
        if (denial := request_denial(request, self._context.acting_rights())) is not None:
            return await self._render_action_page(request, fields, denial.status, error=_FormProblem(denial.reason))
        return await self._plan_or_request(request, fields)

    async def cancel_run(self, request: Request) -> Response:
        """Ask a run to stop, then show it."""
        run_id = request.path_params["id"]

        def request_cancel() -> None:
            self._context.operations.cancel_run(run_id, actor_with_address(request, self._context.acting_rights()))

        return await self._run_permitted_control(request, request_cancel, f"/runs/{run_id}")

    async def pause_actions(self, request: Request) -> Response:
        """Stop every action from starting."""

        def begin_pause() -> None:
            actor = actor_with_address(request, self._context.acting_rights())
            self._context.operations.pause_actions(actor, " on the page")

        return await self._run_permitted_control(request, begin_pause, "/")

    async def resume_actions(self, request: Request) -> Response:
        """Let actions start again."""

        def end_pause() -> None:
            self._context.operations.resume_actions(actor_with_address(request, self._context.acting_rights()))

        return await self._run_permitted_control(request, end_pause, "/")

    async def _run_permitted_control(self, request: Request, do: Callable[[], object], target: str) -> Response:
        """Call `do` when the viewer may act, then redirect to `target`."""
        if (rejection := await self._reject_foreign_form(request)) is not None:
            return rejection
        if (denial := request_denial(request, self._context.acting_rights())) is not None:
            return await self._render_error_page(request, denial.status, "Not allowed", f"{denial.reason}.")
        try:
            await run_in_threadpool(do)
        except Refused as error:
            return await self._render_error_page(request, 409, "Not done", f"{error.message_with_next_step()}.")
        except (KeyError, OverflowError):
            return await self._render_error_page(request, 404, "Not found", "There is no such run.")
        except StoreUnavailable as error:
            return await self._render_error_page(request, 503, "Not done", f"{error}.")
        return RedirectResponse(self._context.mount.prefix + target, 303)

    async def _plan_or_request(self, request: Request, fields: Fields) -> Response:
        database, action = request.path_params["database"], request.path_params["action"]
        known = remote_actions().get(action, {})
        try:
            options = _parse_option_fields(known, fields)
            wanted = OperatorRequest(
                database, action, options, actor_with_address(request, self._context.acting_rights())
            )
            if fields.get("do") != "run":
                planned = await run_in_threadpool(self._context.operations.plan, wanted)
                return await self._render_action_page(request, fields, plan=_dry_run_result(planned))
            if ACTION_SPECS[action].needs_fresh_backup and fields.get("sure") != "yes":
                return await self._render_action_page(
                    request, fields, 400, error=_FormProblem("tick the box: this cannot be undone without a backup")
                )
            recorded = await run_in_threadpool(self._context.operations.request_run, wanted)
        except (Refused, InvalidForm, UnknownDatabase, TooManyDryRuns, StoreUnavailable, KeyError) as error:
            return await self._render_action_page(request, fields, 409, error=_form_problem(error))
        return RedirectResponse(f"{self._context.mount.prefix}/runs/{recorded.run_id}", 303)

    async def _render_action_page(
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
            return await run_in_threadpool(self._pages.render_not_found, request, "There is no action of this name.")
        denial = identity_denial(identity_of(request), self._context.acting_rights())
        if denial is not None and code == 200:
            target = f"/databases/{quote_url_path(database)}/act/{action}"
            return RedirectResponse(f"{self._context.mount.prefix}/login?next={quote_url_path(target)}", 303)
        given = {name: fields.get(f"option.{name}", "") for name in known}
        values = {
            "database": database,
            "action": action,
            "options": known,
            "given": given,
            "error": error,
            "plan": plan,
        }
        destructive = ACTION_SPECS[action].needs_fresh_backup
        return await run_in_threadpool(
            lambda: self._pages.render_page(request, "act.html", code, destructive=destructive, **values)
        )

    async def _render_login_page(self, request: Request, target: str, code: int = 200, error: str = "") -> Response:
        right = self._context.acting_rights()
        values = {
            "next": _local_redirect_path(target),
            "tokens": right.enabled and bool(right.token_digests),
            "users": right.enabled and bool(right.users & self._context.web().users.keys()),
            "error": error,
        }
        return await run_in_threadpool(lambda: self._pages.render_page(request, "login.html", code, **values))

    async def _begin_session(self, fields: Fields, address: str) -> str:
        """Begin a session and return its secret; empty when the credential gives no right to act."""
        right, web = self._context.acting_rights(), self._context.web()
        token, user = fields.get("token", "").strip(), fields.get("user", "")
        if token:
            offered = token_digest(token.encode())
            is_valid = identity_denial(Identity(token=offered), right) is None
            return self._sessions.begin_session(monotonic(), token=offered) if is_valid else ""
        if not user:
            return ""
        # before the right to act: the time of an answer must not reveal who may act
        verdict = await self._passwords.verify_password(web.users, user, fields.get("password", ""), address)
        if verdict is not PasswordVerdict.RIGHT or identity_denial(Identity(user=user), right) is not None:
            return ""
        return self._sessions.begin_session(monotonic(), user=user, hashed=web.users[user])

    async def _read_own_form(self, request: Request) -> Fields:
        """Return the fields of a form that was rendered for this viewer. Raises InvalidForm."""
        fields = await _read_form_fields(request)
        if not is_own_form(request, self._sessions, fields.get("key", "")):
            raise InvalidForm("this form was not sent from a page of your session, or the session has ended")
        return fields

    async def _reject_foreign_form(self, request: Request) -> Response | None:
        try:
            await self._read_own_form(request)
        except InvalidForm as error:
            return await self._render_error_page(request, 403, "Not done", f"{error}.")
        return None

    async def _render_error_page(self, request: Request, code: int, title: str, what: str) -> Response:
        return await run_in_threadpool(
            lambda: self._pages.render_page(request, "error.html", code, title=title, what=what[:1].upper() + what[1:])
        )


async def _read_form_fields(request: Request) -> Fields:
    """Return the fields of a form. Raises InvalidForm."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise InvalidForm("only forms of queuekeeper's own pages are accepted here")
    try:
        text = (await read_body(request)).decode("utf-8")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict"))
    except (BodyTooLarge, BodyTooSlow, ClientDisconnect, ValueError) as error:
        raise InvalidForm("the form could not be read") from error


def _parse_option_fields(known: Mapping[str, ActionOption], fields: Fields) -> dict[str, Option]:
    """Return the options that were filled in, converted to their kind; the action itself checks their values."""
    given = {name: fields.get(f"option.{name}", "").strip() for name in known}
    return {name: _parse_option_text(name, known[name], text) for name, text in given.items() if text}


def _parse_option_text(name: str, kind: ActionOption, text: str) -> Option:
    if kind.kind == "flag":
        return text == "true"
    if kind.kind not in ("count", "seconds"):
        return text
    try:
        return int(text) if kind.kind == "count" else float(text)
    except ValueError:
        raise InvalidForm(f"{name}: {text!r} is not a number: {kind.help}") from None


def _dry_run_result(event: Event) -> _DryRunResult:
    outcome = str(event.figures.get("outcome", "failed"))
    figures = {name: value for name, value in event.figures.items() if name not in ("outcome", "next_step")}
    ok = outcome in list(Outcome) and EXIT_CODES[Outcome(outcome)] == 0
    return _DryRunResult(outcome, ok, event.message, str(event.figures.get("next_step") or ""), figures)


def _form_problem(error: Exception) -> _FormProblem:
    if isinstance(error, Refused):
        return _FormProblem(str(error), error.next_step)
    if isinstance(error, TooManyDryRuns):
        return _FormProblem("too many dry runs are running", "try again in a moment")
    return _FormProblem(str(error))


def _local_redirect_path(target: str) -> str:
    """Return the path to show after the login: a path of this server, or `/` where `target` is something else."""
    plain = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if plain and target.isprintable() and target.isascii() else "/"
