"""What machines ask for: metrics and health."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from exporter.web.context import Front
from exporter.web.scrape_queue import Overloaded, Scrapes

Handler = Callable[[Request], Awaitable[Response]]


def metrics(front: Front) -> Handler:
    """The exposition; `name[]` asks for some metrics only, as Prometheus' clients do."""

    scrapes = Scrapes(front.render)

    async def show(request: Request) -> Response:
        names = request.query_params.getlist("name[]")
        accept, encoding = (",".join(request.headers.getlist(name)) for name in ("accept", "accept-encoding"))
        try:
            page = await scrapes.page(accept, encoding, names)
        except Overloaded:
            return PlainTextResponse("too many different pages are asked for at once\n", 503)
        headers = {"Content-Type": page.content_type, "Vary": "Accept, Accept-Encoding"}
        if page.encoding:
            headers["Content-Encoding"] = page.encoding
        return Response(page.body, headers=headers)

    return show


def healthy(_front: Front) -> Handler:
    """The process runs and answers."""

    async def show(_request: Request) -> Response:
        return PlainTextResponse("queuekeeper is healthy.\n")

    return show


def ready(front: Front) -> Handler:
    """Every database was polled once, and we are not stopping."""

    async def show(_request: Request) -> Response:
        reason = front.not_ready()
        return PlainTextResponse(
            f"not ready: {reason}\n" if reason else "queuekeeper is ready.\n", 503 if reason else 200
        )

    return show
