"""The handlers of Prometheus and of probes: metrics, healthy, ready."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from exporter.web.context import WebContext
from exporter.web.responses import Handler
from exporter.web.scrape_queue import ScrapeQueue, ScrapeQueueFull


def metrics_handler(context: WebContext) -> Handler:
    """Return the handler of the metrics page; `name[]` selects metrics, as in Prometheus' own clients."""

    scrapes = ScrapeQueue(context.render)

    async def show_metrics(request: Request) -> Response:
        names = request.query_params.getlist("name[]")
        accept, encoding = (",".join(request.headers.getlist(name)) for name in ("accept", "accept-encoding"))
        try:
            page = await scrapes.render_page(accept, encoding, names)
        except ScrapeQueueFull:
            return PlainTextResponse("too many different pages are requested at once\n", 503)
        headers = {"Content-Type": page.content_type, "Vary": "Accept, Accept-Encoding"}
        if page.encoding:
            headers["Content-Encoding"] = page.encoding
        return Response(page.body, headers=headers)

    return show_metrics


def healthy_handler(_context: WebContext) -> Handler:
    """Return the handler that answers 200 while the process runs."""

    async def show_healthy(_request: Request) -> Response:
        return PlainTextResponse("queuekeeper is healthy.\n")

    return show_healthy


def ready_handler(context: WebContext) -> Handler:
    """Return the handler that answers 200 once every database was polled, and 503 before that and while the agent stops."""

    async def show_ready(_request: Request) -> Response:
        reason = context.not_ready()
        return PlainTextResponse(
            f"not ready: {reason}\n" if reason else "queuekeeper is ready.\n", 503 if reason else 200
        )

    return show_ready
