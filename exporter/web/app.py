"""Routes to handlers. Everything that is not GET, HEAD or a named POST is answered 405 by the router."""

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from exporter.web import api, control, probes, webhook
from exporter.web.context import Front
from exporter.web.forms import Forms
from exporter.web.html_pages import Site, shown
from exporter.web.middleware import Gate
from exporter.web.passwords import Passwords
from exporter.web.run_number import register
from exporter.web.sessions import Sessions


def build(front: Front) -> ASGIApp:
    """The application of one agent."""
    register()
    passwords, sessions = Passwords(), Sessions()
    site = Site(front, sessions)
    routes = [*_machine(front), *api.routes(front), *_person(front, site, sessions, passwords)]
    app = Starlette(routes=routes, exception_handlers={404: site.not_found})
    app.router.redirect_slashes = False  # its redirects lead to whatever Host the request names
    return Gate(app, front, passwords, sessions)


def _machine(front: Front) -> list[Route]:
    """For Prometheus, Alertmanager, probes and scripts."""
    return [
        # before the page, so that metrics can be asked for at the root
        Route(front.mount.telemetry_path, probes.metrics(front), methods=["GET"]),
        Route("/-/healthy", probes.healthy(front), methods=["GET"]),
        Route("/-/ready", probes.ready(front), methods=["GET"]),
        Route("/-/reload", control.reload(front), methods=["POST", "PUT"]),
        Route("/api/v1/pause", control.pause(front), methods=["POST"]),
        Route("/api/v1/resume", control.resume(front), methods=["POST"]),
        Route("/api/v1/runs/{run_id:run}/cancel", control.cancel(front), methods=["POST"]),
        Route("/api/v1/alerts", webhook.endpoint(front), methods=["POST"]),
    ]


def _person(front: Front, site: Site, sessions: Sessions, passwords: Passwords) -> list[Route]:
    """The page."""
    forms = Forms(front, site, sessions, passwords)
    act = "/databases/{database:path}/act/{action}"
    return [
        Route("/", shown(site.overview), methods=["GET"]),
        Route("/assets/{name}", shown(site.asset), methods=["GET"]),
        Route("/history", shown(site.history), methods=["GET"]),
        Route("/runs/{id:run}", shown(site.run), methods=["GET"]),
        Route("/runs/{id:run}/cancel", forms.cancel, methods=["POST"]),
        Route("/login", forms.login_page, methods=["GET"]),
        Route("/login", forms.login, methods=["POST"]),
        Route("/logout", forms.logout, methods=["POST"]),
        Route("/pause", forms.pause, methods=["POST"]),
        Route("/resume", forms.resume, methods=["POST"]),
        Route(act, forms.act_page, methods=["GET"]),
        Route(act, forms.act, methods=["POST"]),
        Route("/databases/{database:path}", shown(site.database), methods=["GET"]),
    ]
