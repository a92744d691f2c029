"""Routes to handlers. Everything that is not GET, HEAD or a named POST is answered 405 by the router."""

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from exporter.web import alerts, api, control, pages
from exporter.web.front import Front
from exporter.web.gate import Gate
from exporter.web.passwords import Passwords
from exporter.web.sessions import Sessions


def build(front: Front) -> ASGIApp:
    """The application of one agent."""
    routes = Starlette(
        routes=[
            # before the page, so that metrics can be asked for at the root
            Route(front.mount.telemetry_path, pages.metrics(front), methods=["GET"]),
            Route("/", pages.landing(front), methods=["GET"]),
            Route("/-/healthy", pages.healthy(front), methods=["GET"]),
            Route("/-/ready", pages.ready(front), methods=["GET"]),
            Route("/-/reload", control.reload(front), methods=["POST", "PUT"]),
            Route("/api/v1/pause", control.pause(front), methods=["POST"]),
            Route("/api/v1/resume", control.resume(front), methods=["POST"]),
            Route("/api/v1/runs/{run_id:int}/cancel", control.cancel(front), methods=["POST"]),
            Route("/api/v1/alerts", alerts.endpoint(front), methods=["POST"]),
            *api.routes(front),
        ]
    )
    return Gate(routes, front, Passwords(), Sessions())
