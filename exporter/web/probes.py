"""What machines ask for: metrics and health."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from exporter.web.context import WebContext
from exporter.web.scrape_queue import ScrapeQueue, ScrapeQueueFull

Handler = Callable[[Request], Awaitable[Response]]


def metrics_handler(front: WebContext) -> Handler:
    """The exposition; `name[]` asks for some metrics only, as Prometheus' clients do."""

    scrapes = ScrapeQueue(front.render)

    async def show_metrics(request: Request) -> Response:
        names = request.query_params.getlist("name[]")
        accept, encoding = (",".join(request.headers.getlist(name)) for name in ("accept", "accept-encoding"))
        try:
            page = await scrapes.render_page(accept, encoding, names)
        except ScrapeQueueFull:
            return PlainTextResponse("too many different pages are asked for at once\n", 503)
        headers = {"Content-Type": page.content_type, "Vary": "Accept, Accept-Encoding"}
        if page.encoding:
            headers["Content-Encoding"] = page.encoding
        return Response(page.body, headers=headers)

    return show_metrics


def healthy_handler(_front: WebContext) -> Handler:
    """The process runs and answers."""

    async def show_healthy(_request: Request) -> Response:
        return PlainTextResponse("queuekeeper is healthy.\n")

    return show_healthy


def ready_handler(front: WebContext) -> Handler:
    """Every database was polled once, and we are not stopping."""

    async def show_ready(_request: Request) -> Response:
        reason = front.not_ready()
        return PlainTextResponse(
            f"not ready: {reason}\n" if reason else "queuekeeper is ready.\n", 503 if reason else 200
        )

    return show_ready
