"""Builds the web application of its routes. The router answers 405 to every other method."""

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from exporter.web import api, control, probes, webhook
from exporter.web.context import WebContext
from exporter.web.forms import PageForms
from exporter.web.html_pages import HtmlPages, page_handler
from exporter.web.middleware import AccessMiddleware
from exporter.web.passwords import PasswordChecker
from exporter.web.responses import register_run_number
from exporter.web.sessions import SessionStore


def build_web_app(context: WebContext) -> ASGIApp:
    """Return the application of one agent, with the middleware that every request passes first."""
    register_run_number()
    passwords, sessions = PasswordChecker(), SessionStore()
    pages = HtmlPages(context, sessions)
    routes = [*_machine_routes(context), *api.api_routes(context), *_page_routes(context, pages, sessions, passwords)]
    app = Starlette(routes=routes, exception_handlers={404: pages.handle_not_found})
    app.router.redirect_slashes = False  # its redirects would use the Host of the request
    return AccessMiddleware(app, context, passwords, sessions)


def _machine_routes(context: WebContext) -> list[Route]:
    """Return the routes of Prometheus, Alertmanager, probes and scripts."""
    return [
        # before the page, so that the metrics can be at the root
        Route(context.mount.telemetry_path, probes.metrics_handler(context), methods=["GET"]),
        Route("/-/healthy", probes.healthy_handler(context), methods=["GET"]),
        Route("/-/ready", probes.ready_handler(context), methods=["GET"]),
        Route("/-/reload", control.reload_handler(context), methods=["POST", "PUT"]),
        Route("/api/v1/pause", control.pause_handler(context), methods=["POST"]),
        Route("/api/v1/resume", control.resume_handler(context), methods=["POST"]),
        Route("/api/v1/runs/{run_id:run}/cancel", control.cancel_handler(context), methods=["POST"]),
        Route("/api/v1/alerts", webhook.webhook_endpoint(context), methods=["POST"]),
    ]


def _page_routes(
    context: WebContext, pages: HtmlPages, sessions: SessionStore, passwords: PasswordChecker
) -> list[Route]:
    """Return the routes of the HTML pages and their forms."""
    forms = PageForms(context, pages, sessions, passwords)
    act = "/databases/{database:path}/act/{action}"
    return [
        Route("/", page_handler(pages.show_overview), methods=["GET"]),
        Route("/assets/{name}", page_handler(pages.send_static_asset), methods=["GET"]),
        Route("/history", page_handler(pages.show_history), methods=["GET"]),
        Route("/runs/{id:run}", page_handler(pages.show_run), methods=["GET"]),
        Route("/runs/{id:run}/cancel", forms.cancel_run, methods=["POST"]),
        Route("/login", forms.show_login_form, methods=["GET"]),
        Route("/login", forms.log_in, methods=["POST"]),
        Route("/logout", forms.log_out, methods=["POST"]),
        Route("/pause", forms.pause_actions, methods=["POST"]),
        Route("/resume", forms.resume_actions, methods=["POST"]),
        Route(act, forms.show_action_form, methods=["GET"]),
        Route(act, forms.submit_action_form, methods=["POST"]),
        Route("/databases/{database:path}", page_handler(pages.show_database), methods=["GET"]),
    ]
