"""Pictures of the page's states, for docs/web.md: python -m tests.support.scenes.page_pictures docs/page"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep, time

from playwright.sync_api import Browser, Page

from collectors.target import Target
from tests.support.real import browser, real_parts
from tests.support.real.browser import Tab, screenshot
from tests.support.scenes import page_scene, web_server
from tests.support.scenes.idle_operations import idle_operations
from tests.support.scenes.page_scene import TOKEN, Scene

WIDE = {"viewport": {"width": 1080, "height": 720}}
PHONE = {"viewport": {"width": 360, "height": 740}}
LONGEST = 1500


def main(place: Path) -> None:
    """Make all pictures."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, browser.chromium() as chromium:
        folder = Path(name)
        (folder / "empty").mkdir()
        _without_anything(chromium, folder / "empty", place)
        (folder / "scene").mkdir()
        with page_scene.scene(folder / "scene") as scene:
            sleep(20)  # so that the charts have readings
            _reading(chromium, scene, place)
            _acting(chromium, scene, place)


def _reading(chromium: Browser, scene: Scene, place: Path) -> None:
    pages = {
        "overview": "/",
        "database": "/databases/jobs",
        "pinned": "/databases/reports",
        "unreadable": "/databases/gone",
    }
    for kind, options in {"": WIDE, "-dark": {**WIDE, "color_scheme": "dark"}, "-phone": PHONE}.items():
        with browser.tab(chromium, **options) as tab:
            for name, path in pages.items():
                if kind and name not in ("overview", "database"):
                    continue
                tab.page.goto(scene.url + path)
                real_parts.until(lambda page=tab.page: page.evaluate("document.body.dataset.refreshed"), "news")
                _picture(tab, place / f"{name}{kind}.png")


def _acting(chromium: Browser, scene: Scene, place: Path) -> None:
    with browser.tab(chromium, **WIDE) as tab:
        page = tab.page
        _log_in(page, scene.url, "wrong")
        _picture(tab, place / "login-failed.png")
        _log_in(page, scene.url, TOKEN)
        page.goto(f"{scene.url}/databases/jobs/act/requeue")
        page.get_by_label("guarded").check()
        page.get_by_role("button", name="Dry run").click()
        page.get_by_text("Nothing was changed").wait_for()
        _picture(tab, place / "dry-run.png")
        page.goto(f"{scene.url}/databases/jobs/act/checkpoint")
        page.get_by_label("mode").select_option("full")
        page.get_by_role("button", name="Run it").click()
        scene.finished(int(page.url.rpartition("/")[2]))
        page.reload()
        _picture(tab, place / "refused.png")
        with _many_stale(scene):
            page.goto(f"{scene.url}/databases/jobs/act/requeue")
            page.get_by_label("guarded").check()
            page.get_by_role("button", name="Run it").click()
            run_id = int(page.url.rpartition("/")[2])
            real_parts.until(lambda: page.evaluate("document.querySelector('progress')?.position > 0"), "progress")
            _picture(tab, place / "running.png")
            page.get_by_role("button", name=f"Cancel run {run_id}").click()
            scene.finished(run_id)
            page.reload()
            _picture(tab, place / "cancelled.png")
        page.goto(f"{scene.url}/history")
        _picture(tab, place / "history.png")
        page.goto(scene.url)
        page.get_by_role("button", name="Pause all actions").click()
        page.get_by_role("button", name="Resume").wait_for()
        _picture(tab, place / "paused.png")


@contextmanager
def _many_stale(scene: Scene) -> Iterator[None]:
    with scene.jobs.owner:
        scene.jobs.leased(time() - 600, 40_000)
    yield


def _without_anything(chromium: Browser, folder: Path, place: Path) -> None:
    """Make the pictures without databases: nothing configured, nothing polled yet, an unreadable state store."""
    (folder / "file").write_text("a file where the folder should be")
    jobs = Target("jobs", folder / "jobs.db")
    contexts = {
        "empty": web_server.idle_context(folder),
        "starting": web_server.idle_context(
            folder, operations=idle_operations(folder, jobs), not_ready=lambda: "not every database was polled yet"
        ),
        "trouble": web_server.idle_context(folder, operations=idle_operations(folder / "file", jobs)),
    }
    for name, shown in contexts.items():
        with web_server.serving(shown) as url, browser.tab(chromium, **WIDE) as tab:
            tab.page.goto(url)
            _picture(tab, place / f"{name}.png")


def _log_in(page: Page, url: str, token: str) -> None:
    page.goto(f"{url}/login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in with the token").click()


def _picture(tab: Tab, place: Path) -> None:
    """Make a picture as high as the page, at most LONGEST pixels."""
    size = tab.page.viewport_size
    height = min(LONGEST, int(tab.page.evaluate("document.documentElement.scrollHeight")))
    assert size is not None
    tab.page.set_viewport_size({"width": size["width"], "height": height})
    screenshot(tab, place, whole=False)
    tab.page.set_viewport_size(size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
