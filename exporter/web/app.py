"""Routes to handlers. Everything that is not GET, HEAD or a named POST is answered 405 by the router."""

from starlette.applications import Starlette
from starlette.routing import Route

from exporter.web import alerts, control, pages
from exporter.web.front import Front


def build(front: Front) -> Starlette:
    """The application of one agent."""
    return Starlette(
        routes=[
            # before the landing page, so that metrics can be asked for at the root
            Route("/" + front.telemetry_path.strip("/"), pages.metrics(front), methods=["GET"]),
            Route("/", pages.landing(front), methods=["GET"]),
            Route("/-/healthy", pages.healthy(front), methods=["GET"]),
            Route("/-/ready", pages.ready(front), methods=["GET"]),
            Route("/-/reload", control.reload(front), methods=["POST", "PUT"]),
            Route("/api/v1/pause", control.pause(front), methods=["POST"]),
            Route("/api/v1/resume", control.resume(front), methods=["POST"]),
            Route("/api/v1/runs/{run_id:int}/cancel", control.cancel(front), methods=["POST"]),
            Route("/api/v1/alerts", alerts.endpoint(front), methods=["POST"]),
        ]
    )
