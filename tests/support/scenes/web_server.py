"""The web server in a thread of the test; all parts are real except the agent behind it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exporter.exposition.page import MetricsPage
from exporter.triggers.alerts import DeliveryReceipt
from exporter.web.address import bind_listen_addresses, listening_urls
from exporter.web.app import build_web_app
from exporter.web.context import ActingRights, WebContext
from exporter.web.server import HttpServer
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes.idle_operations import idle_operations

PAGE = MetricsPage(b"up 1\n", "text/plain; version=0.0.4; charset=utf-8")


def idle_context(state: Path, **changes: Any) -> WebContext:
    """Return the web context of an agent that does nothing; `changes` replace its parts."""
    parts: dict[str, Any] = {
        "version": "1.2.3",
        "render": lambda _accept, _encoding, _names: PAGE,
        "not_ready": lambda: "",
        "acting_rights": lambda: ActingRights(enabled=False),
        "receive_delivery": lambda _alerts: DeliveryReceipt(()),
        "count_answer": lambda _code: None,
        "reload": lambda: (),
        "operations": idle_operations(state),
    }
    return WebContext(**{**parts, **changes})


@contextmanager
def serving(shown: WebContext) -> Iterator[str]:
    """Run the server and yield its address, `http://` or `https://` as the web configuration says."""
    sockets = bind_listen_addresses(["127.0.0.1:0"])
    (url,) = listening_urls(sockets, "https" if shown.web().tls is not None else "http")
    started = threading.Event()
    server = HttpServer(build_web_app(shown), web=shown.web, on_start=started.set)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    try:
        assert started.wait(LONGEST_WAIT)
        yield url
    finally:
        server.stop()
        thread.join(LONGEST_WAIT)
        assert not thread.is_alive()
