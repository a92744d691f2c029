"""Renders pages of metrics in one thread of their own: slow HTML pages do not delay a scrape, and many scrapes take one thread.

Scrapes that wait for the same page when its rendering begins share it: 64 at once cost little more than one.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from exporter.exposition.page import MetricsPage

RenderPage = Callable[[str, str, Sequence[str]], MetricsPage]
PageKey = tuple[str, str, tuple[str, ...]]
# How many different pages may wait (a client that sends `name[]` can request ever new ones).
MAX_WAITING_PAGES = 100


class ScrapeQueueFull(Exception):
    """Too many different pages are requested at once."""


class ScrapeQueue:
    """Renders the metrics pages of one server."""

    def __init__(self, render: RenderPage) -> None:
        self._render = render
        self._worker = ThreadPoolExecutor(1, "scrape")
        self._guard = threading.Lock()
        self._waiting: dict[PageKey, Future[MetricsPage]] = {}

    async def render_page(self, accept: str, accept_encoding: str, names: Sequence[str]) -> MetricsPage:
        """Return a page whose rendering begins after this call. Raises ScrapeQueueFull."""
        page = self._join_or_submit((accept, accept_encoding, tuple(names)))
        return await asyncio.shield(asyncio.wrap_future(page))

    def _join_or_submit(self, key: PageKey) -> "Future[MetricsPage]":
        with self._guard:
            if key not in self._waiting:
                if len(self._waiting) >= MAX_WAITING_PAGES:
                    raise ScrapeQueueFull
                self._waiting[key] = self._worker.submit(self._render_now, key)
            return self._waiting[key]

    def _render_now(self, key: PageKey) -> MetricsPage:
        """Render the page; a scrape that arrives from now on gets a later one."""
        with self._guard:
            del self._waiting[key]
        return self._render(*key)
