"""Debian's Chromium, headless, driven by Playwright: pages that tell everything they asked for and everything that failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.real import real_parts

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
AXE = real_parts.UNPACKED.parent.parent / "axe" / "node_modules" / "axe-core" / "axe.min.js"


@dataclass
class Tab:
    """One page and what it did. `asked`: every address; `complaints`: console errors, refusals by CSP, failed requests."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def serious(self) -> list[str]:
        """What axe finds that is serious or worse, as `rule: element`. Its script is run past the page's CSP."""
        self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {node['html']}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def width(self) -> int:
        """How wide the content is, in CSS pixels: wider than the window means scrolling sideways."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """A browser of its own, with nothing remembered. `more`: arguments of its command line."""
    place = real_parts.require("chromium")
    with TemporaryDirectory(prefix="queuekeeper-chromium-") as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(place), args=[*ARGUMENTS, *more], env={"HOME": home, "PATH": "/usr/bin:/bin"}
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Browser, **options: Any) -> Iterator[Tab]:
    """A page in a context of its own: no cookie, no cache of another test."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(20_000)
    try:
        made = Tab(context.new_page())
        made.page.on("request", lambda request: made.asked.append(request.url))
        made.page.on("console", lambda line: made.complaints.append(line.text) if line.type == "error" else None)
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        yield made
    finally:
        context.close()


def screenshot(tab: Tab, place: Path, *, whole: bool = True) -> None:
    """A small PNG."""
    tab.page.screenshot(path=place, full_page=whole, animations="disabled")
