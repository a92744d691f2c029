"""The HTML pages. Everything is rendered here, from memory and the state store; the script only fetches pages again."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from actions.runner.catalogue import ACTION_SPECS
from actions.runner.manual import remote_actions
from actions.store.database import StoreUnavailable
from actions.store.runs import Run
from exporter.page.chart import choose_chart_span, draw_chart
from exporter.page.render import ASSETS, PageTemplates, compress_body
from exporter.status.database import HEALTH_STATES, QueueSummary
from exporter.status.operations import UnknownDatabase
from exporter.status.recent_readings import SERIES
from exporter.text.chain import pause_line
from exporter.web.context import WebContext
from exporter.web.responses import RUN_NUMBER, Handler
from exporter.web.sessions import SessionStore
from exporter.web.viewer import viewer_of

RUNS_PER_PAGE = 50
PAUSES_PER_PAGE = 10
# Allows nothing of another host, no inline script or style, no frame around the page, no form to another host.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
    "Referrer-Policy": "same-origin",  # `no-referrer` would make our own forms look like another site's (Origin: null)
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept-Encoding, Cookie, Authorization",
}
_TASK_STATES = ("waiting", "scheduled", "running", "done", "failed", "dead")


class HtmlPages:
    """Renders the pages of one agent."""

    def __init__(self, context: WebContext, sessions: SessionStore) -> None:
        self._context, self._sessions = context, sessions
        mount = context.mount
        self._templates = PageTemplates(mount.prefix, context.version, mount.telemetry_path)

    def render_page(self, request: Request, template: str, code: int = 200, **values: object) -> Response:
        """Render one page for this viewer. It reads the state store, so call it outside the event loop."""
        viewer = viewer_of(request, self._context, self._sessions)
        html = self._templates.render_html(
            template, viewer=viewer, agent=self._context.operations.agent_status(), **values
        )
        return _build_page_response(request, html.encode("utf-8", "backslashreplace"), "text/html; charset=utf-8", code)

    def render_not_found(self, request: Request, what: str) -> Response:
        """Render the page for something that does not exist."""
        return self.render_page(request, "error.html", 404, title="Not found", what=what)

    async def handle_not_found(self, request: Request, _error: Exception) -> Response:
        """Answer an unknown address: with a page for browsers, in plain text for others."""
        if "text/html" in request.headers.get("accept", ""):
            return await run_in_threadpool(self.render_not_found, request, "There is no page at this address.")
        return PlainTextResponse("Not Found\n", 404)

    def show_overview(self, request: Request) -> Response:
        """Show all databases, the worst first."""
        statuses = self._context.operations.list_database_statuses()
        health = request.query_params.get("health", "")
        health = health if health in HEALTH_STATES else ""
        ranked = sorted(statuses, key=lambda status: HEALTH_STATES.index(status.health))
        return self.render_page(
            request,
            "overview.html",
            databases=statuses,
            listed=[status for status in ranked if not health or status.health == health],
            counts=Counter(status.health for status in statuses),
            totals={status.name: _queue_totals(status.queues) for status in statuses},
            selected_health=health,
            not_ready=self._context.not_ready(),
        )

    def show_database(self, request: Request) -> Response:
        """Show one database: readings, charts, rules, actions, and its last runs."""
        operations, name = self._context.operations, request.path_params["database"]
        try:
            status = operations.database_status(name)
        except UnknownDatabase as error:
            return self.render_not_found(request, f"{error}.")
        lines, now = operations.last_hour_points(status.name), time()
        width = choose_chart_span(lines, now)
        charts = [draw_chart(*pair, now, width, operations.longest_gap) for pair in zip(SERIES, lines, strict=True)]
        agent = operations.agent_status()
        states = [state for state in _TASK_STATES if any(state in queue.tasks for queue in status.queues)]
        return self.render_page(
            request,
            "database.html",
            status=status,
            states=states,
            charts=[made for made in charts if made is not None],
            offered=list(remote_actions()),
            runs=self._recent_runs(status.name),
            active_runs_here=[run for run in agent.active_runs if run.database == status.name],
            schedules=operations.schedule_texts(status.name, agent.paused),
        )

    def show_history(self, request: Request) -> Response:
        """Show the runs of all databases, page by page."""
        given = {name: request.query_params.get(name, "") for name in ("database", "action", "outcome", "before")}
        is_number = RUN_NUMBER.fullmatch(given["before"]) is not None
        if given["before"].isdigit() and not is_number:
            return self.render_not_found(request, "There is no such run.")
        before = int(given["before"]) if is_number else None
        words = {name: value for name, value in given.items() if name != "before"}
        try:
            runs = self._context.operations.list_runs(RUNS_PER_PAGE, before=before, **words)
            pauses = [pause_line(entry) for entry in self._context.operations.list_pauses(PAUSES_PER_PAGE)]
        except StoreUnavailable as error:
            return self.render_page(
                request, "error.html", 503, title="The state store cannot be read", what=f"{error}."
            )
        older = urlencode({**words, "before": runs[-1].id}) if len(runs) == RUNS_PER_PAGE else ""
        filtered, actions = any(given.values()), sorted(ACTION_SPECS)
        listed: dict[str, Any] = {"runs": runs, "pauses": pauses, "filters": given, "filtered": filtered}
        return self.render_page(request, "history.html", actions=actions, older=older, **listed)

    def show_run(self, request: Request) -> Response:
        """Show one run with its plan, figures and effect."""
        try:
            return self.render_page(
                request, "run.html", run=self._context.operations.find_run(request.path_params["id"])
            )
        except (KeyError, OverflowError):
            return self.render_not_found(request, f"There is no run {request.path_params['id']}.")
        except StoreUnavailable as error:
            return self.render_page(
                request, "error.html", 503, title="The state store cannot be read", what=f"{error}."
            )

    def send_static_asset(self, request: Request) -> Response:
        """Send the style sheet, script or icon. The address contains a hash of the content, so browsers may cache it."""
        name = request.path_params["name"]
        if name not in ASSETS:
            return self.render_not_found(request, "There is no such file.")
        answer = _build_page_response(request, self._templates.assets[name], ASSETS[name], 200)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer

    def _recent_runs(self, database: str) -> list[Run] | None:
        try:
            return self._context.operations.list_runs(10, database=database)
        except StoreUnavailable:
            return None  # the page shows that the state store cannot be read


def page_handler(make: Callable[[Request], Response]) -> Handler:
    """Return a handler that renders in a thread, outside the event loop."""

    async def render_in_thread(request: Request) -> Response:
        return await run_in_threadpool(make, request)

    return render_in_thread


@dataclass(frozen=True, slots=True)
class _QueueTotals:
    """The sums over all queues of a database; None is not known."""

    waiting: float | None
    running: float | None
    stale: float | None
    oldest: float | None


def _queue_totals(queues: Sequence[QueueSummary]) -> _QueueTotals:
    return _QueueTotals(
        waiting=_sum_known_values([queue.tasks.get("waiting") for queue in queues]),
        running=_sum_known_values([queue.tasks.get("running") for queue in queues]),
        stale=_sum_known_values([queue.stale_leases for queue in queues]),
        oldest=max((q.oldest_waiting_seconds for q in queues if q.oldest_waiting_seconds is not None), default=None),
    )


def _sum_known_values(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _build_page_response(request: Request, body: bytes, kind: str, code: int) -> Response:
    headers: Mapping[str, str] = SECURITY_HEADERS
    if len(body) > 1000 and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers = compress_body(body), {**SECURITY_HEADERS, "Content-Encoding": "gzip"}
    return Response(body, code, headers, kind)
