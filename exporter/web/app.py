"""Routes to handlers. Everything that is not GET, HEAD or a named POST is answered 405 by the router."""

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from exporter.web import api, control, probes, webhook
from exporter.web.context import WebContext
from exporter.web.forms import PageForms
from exporter.web.html_pages import HtmlPages, page_handler
from exporter.web.middleware import AccessMiddleware
from exporter.web.passwords import PasswordChecker
from exporter.web.run_number import register_run_number
from exporter.web.sessions import SessionStore


def build_app(front: WebContext) -> ASGIApp:
    """The application of one agent."""
    register_run_number()
    passwords, sessions = PasswordChecker(), SessionStore()
    site = HtmlPages(front, sessions)
    routes = [*_machine_routes(front), *api.api_routes(front), *_page_routes(front, site, sessions, passwords)]
    app = Starlette(routes=routes, exception_handlers={404: site.handle_not_found})
    app.router.redirect_slashes = False  # its redirects lead to whatever Host the request names
    return AccessMiddleware(app, front, passwords, sessions)


def _machine_routes(front: WebContext) -> list[Route]:
    """For Prometheus, Alertmanager, probes and scripts."""
    return [
        # before the page, so that metrics can be asked for at the root
        Route(front.mount.telemetry_path, probes.metrics_handler(front), methods=["GET"]),
        Route("/-/healthy", probes.healthy_handler(front), methods=["GET"]),
        Route("/-/ready", probes.ready_handler(front), methods=["GET"]),
        Route("/-/reload", control.reload_handler(front), methods=["POST", "PUT"]),
        Route("/api/v1/pause", control.pause_handler(front), methods=["POST"]),
        Route("/api/v1/resume", control.resume_handler(front), methods=["POST"]),
        Route("/api/v1/runs/{run_id:run}/cancel", control.cancel_handler(front), methods=["POST"]),
        Route("/api/v1/alerts", webhook.webhook_endpoint(front), methods=["POST"]),
    ]


def _page_routes(front: WebContext, site: HtmlPages, sessions: SessionStore, passwords: PasswordChecker) -> list[Route]:
    """The page."""
    forms = PageForms(front, site, sessions, passwords)
    act = "/databases/{database:path}/act/{action}"
    return [
        Route("/", page_handler(site.show_overview), methods=["GET"]),
        Route("/assets/{name}", page_handler(site.send_asset), methods=["GET"]),
        Route("/history", page_handler(site.show_history), methods=["GET"]),
        Route("/runs/{id:run}", page_handler(site.show_run), methods=["GET"]),
        Route("/runs/{id:run}/cancel", forms.cancel_run, methods=["POST"]),
        Route("/login", forms.show_login, methods=["GET"]),
        Route("/login", forms.log_in, methods=["POST"]),
        Route("/logout", forms.log_out, methods=["POST"]),
        Route("/pause", forms.pause_actions, methods=["POST"]),
        Route("/resume", forms.resume_actions, methods=["POST"]),
        Route(act, forms.show_action, methods=["GET"]),
        Route(act, forms.submit_action, methods=["POST"]),
        Route("/databases/{database:path}", page_handler(site.show_database), methods=["GET"]),
    ]
