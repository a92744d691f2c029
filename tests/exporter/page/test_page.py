"""The page in Debian's Chromium: every situation, reading without scripts, acting, keyboard, phones, the dark, a whole day."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep, time
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from collectors.target import Target
from exporter.status.events import StatusEvent
from exporter.web.context import WebContext
from tests.support.patience import LONGEST_WAIT
from tests.support.real import browser, real_parts
from tests.support.real.browser import Tab
from tests.support.scenes import page_scene, web_server
from tests.support.scenes.idle_operations import idle_operations
from tests.support.scenes.page_scene import TOKEN, Scene

pytestmark = pytest.mark.real
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with page_scene.scene(tmp_path_factory.mktemp("page")) as made:
        yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as made:
        yield made


@pytest.fixture
def opened(scene: Scene, chromium: Browser) -> Open:
    """Yield a tab at a path; at its end check that nothing of another host was requested and that no error occurred."""

    @contextmanager
    def at(path: str, **options: Any) -> Iterator[Tab]:
        with browser.tab(chromium, **options) as made:
            made.page.goto(scene.url + path)
            yield made
            assert {url for url in made.asked if not url.startswith(scene.url)} == set()
            assert made.complaints == []

    return at


def log_in(page: Page, url: str, token: str = TOKEN) -> None:
    page.goto(f"{url}/login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in with the token").click()


def until(page: Page, expression: str, timeout: float = LONGEST_WAIT) -> None:
    """Wait for a condition. Playwright's own wait evaluates text in the page, which its CSP forbids."""
    real_parts.until(lambda: page.evaluate(expression), expression, timeout)


def row(page: Page, name: str) -> Any:
    """Return the row of one database."""
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))


SITUATIONS = {
    "mail": ("Healthy", "idle", "2\N{NO-BREAK SPACE}waiting", "last drill"),
    "jobs": (
        "Needs attention",
        "3 tasks have a stale lease",
        "none verified",
        "no drill yet",
        "stale-leases: outside its limit",
    ),
    "reports": (
        "Needs attention",
        "pinned by a reader",
        "backlog",
        "python (",
        "wal-backlog: outside its limit",
        "no backup directory",
    ),
    "gone": ("Cannot be read", "is not there", "unknown"),
    "notes": ("Cannot be read", "is no SQLite database", "unknown"),
}


def test_every_situation_is_shown_in_words_without_any_script(opened: Open) -> None:
    with opened("/", java_script_enabled=False) as tab:
        for name, words in SITUATIONS.items():
            text = row(tab.page, name).inner_text()
            for word in words:
                assert word.replace("\N{NO-BREAK SPACE}", " ") in text.replace("\N{NO-BREAK SPACE}", " "), (name, word)
        assert "reload the page for updates" in tab.page.inner_text("footer")
        tab.page.get_by_role("link", name="Needs attention 2").click()
        assert tab.page.locator("tbody tr").count() == 2
        tab.page.get_by_role("link", name="reports").click()
        text = tab.page.inner_text("main")
        for word in (
            "blocked by python",
            "python report.py reports.db",
            "No backup directory",
            "outside its limit for",
            "requests checkpoint",
        ):
            assert word in text, word
        assert "blocked" in row(tab.page, "#3").inner_text()
        assert "nightly" not in text
        assert tab.page.get_by_role("img", name=re.compile("WAL backlog: now 7.9.MiB")).count() == 1


def test_the_schedules_of_a_database_are_shown(opened: Open) -> None:
    with opened("/databases/mail") as tab:
        schedules = tab.page.locator("#times + ul")
        assert "nightly next backup at" in schedules.inner_text()


def test_acting_works_without_any_script_too(opened: Open, scene: Scene) -> None:
    with opened("/login?next=/databases/mail/act/checkpoint", java_script_enabled=False) as tab:
        tab.page.get_by_label("Token").fill(TOKEN)
        tab.page.get_by_role("button", name="Log in with the token").click()
        tab.page.get_by_role("button", name="Run it").click()
        run_id = int(tab.page.url.rpartition("/")[2])
        scene.finished(run_id)
        tab.page.reload()
        assert "token token from 127.0.0.1" in tab.page.inner_text("main")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 360), ("light", 1280)])
def test_nothing_serious_is_inaccessible_and_nothing_is_wider_than_the_window(
    opened: Open, scene: Scene, scheme: Any, width: int
) -> None:
    with opened("/", color_scheme=scheme, viewport={"width": width, "height": 740}) as tab:
        assert tab.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
        ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (scheme == "dark")
        pages = ["/", "/databases/reports", "/databases/gone", "/history", "/runs/3", "/login", "/nothing/here"]
        for path in (*pages, "LOG IN", "/", "/databases/jobs", "/databases/jobs/act/requeue"):
            if path == "LOG IN":
                log_in(tab.page, scene.url)
                continue
            tab.page.goto(scene.url + path)
            assert tab.serious() == [], path
            assert tab.width() <= width, path
        tab.complaints.clear()  # the page that is not there


def test_names_and_messages_are_shown_as_text(opened: Open, scene: Scene) -> None:
    with opened("/") as tab:
        tab.page.get_by_role("link", name=page_scene.STRANGE.removesuffix(".db")).click()
        expect(tab.page.get_by_role("heading", level=1)).to_have_text(page_scene.STRANGE.removesuffix(".db"))
        assert tab.page.locator("img").count() == 0
        assert "onerror" in tab.page.inner_text("main")
    with opened("/databases/reports") as tab:
        assert page_scene.HOSTILE in tab.page.inner_text("main"), "the command line of who holds the WAL"
        assert tab.page.locator("main script").count() == 0
    with opened("/databases/jobs") as tab:
        assert row(tab.page, page_scene.HOSTILE).count() == 1, "the name of a queue"
    hostile = page_scene.HOSTILE
    with opened(f"/history?database={hostile}&action={hostile}&outcome={hostile}&before={hostile}") as tab:
        assert tab.page.get_by_label("Database").input_value() == hostile
        assert tab.page.locator("main script").count() == 0
    with opened(f"/login?next={hostile}") as tab:
        assert tab.page.locator("main script").count() == 0


def test_a_dry_run_shows_the_plan_and_changes_nothing(opened: Open, scene: Scene) -> None:
    with opened("/login") as tab:
        log_in(tab.page, scene.url)
        tab.page.goto(f"{scene.url}/databases/jobs/act/requeue")
        tab.page.get_by_label("guarded").check()
        tab.page.get_by_label("limit").fill("2")
        tab.page.get_by_role("button", name="Dry run").click()
        expect(tab.page.get_by_role("status").filter(has_text="Dry run")).to_contain_text("Nothing was changed")
        assert tab.page.get_by_label("guarded").is_checked(), "what was filled in is still there"
        assert tab.page.get_by_label("limit").input_value() == "2"
        assert tab.serious() == []
    assert scene.jobs.value("SELECT count(*) FROM task_queue WHERE status = 'leased'") >= 3


def test_a_run_is_followed_live_cancelled_and_told_to_who_cannot_see(opened: Open, scene: Scene) -> None:
    many = 160_000  # more than the WAL's budget takes at once: the run waits for room while it is looked at
    with scene.jobs.owner:
        scene.jobs.leased(time() - 600, many)
    try:
        with opened("/login") as tab:
            log_in(tab.page, scene.url)
            tab.page.goto(f"{scene.url}/databases/jobs/act/requeue")
            tab.page.get_by_label("guarded").check()
            tab.page.get_by_role("button", name="Run it").click()
            tab.page.wait_for_url("**/runs/*")
            run_id = int(tab.page.url.rpartition("/")[2])
            until(tab.page, "document.querySelector('progress')?.position > 0")
            expect(tab.page.locator("[data-said]")).to_contain_text(re.compile(r"requeued tasks: \d+ %"))
            tab.page.get_by_role("button", name=f"Cancel run {run_id}").click()
            expect(tab.page.locator(".head .outcome")).to_have_text("cancelled", timeout=1000 * LONGEST_WAIT)
            assert "stopped" in tab.page.inner_text("main")
        assert scene.finished(run_id)["outcome"] == "cancelled"
    finally:
        with scene.jobs.owner:
            scene.jobs.owner.execute("DELETE FROM task_queue WHERE id > 1000")


def test_a_run_that_ends_is_seen_and_said_without_loading_again(opened: Open, scene: Scene) -> None:
    with opened("/history") as tab:
        expect(tab.page.locator("#live")).to_contain_text("live")
        tab.page.evaluate("document.body.dataset.pause = 100")
        run_id = scene.ask("checkpoint", "mail")
        expect(row(tab.page, f"#{run_id}").locator(".outcome")).not_to_have_text("running", timeout=1000 * LONGEST_WAIT)
        expect(tab.page.locator("#said")).to_contain_text(f"Run {run_id}, checkpoint on mail")


def test_a_refusal_names_its_cure(opened: Open, scene: Scene) -> None:
    with opened("/login") as tab:
        log_in(tab.page, scene.url)
        tab.page.goto(f"{scene.url}/databases/jobs/act/checkpoint")
        tab.page.get_by_label("mode").select_option("full")
        tab.page.get_by_role("button", name="Dry run").click()
        result = tab.page.get_by_role("status").filter(has_text="Dry run: refused")
        expect(result).to_contain_text("WAL-reset bug")
        expect(result).to_contain_text("Next step:")
        tab.page.get_by_role("button", name="Run it").click()
        scene.finished(int(tab.page.url.rpartition("/")[2]))
        tab.page.reload()
        expect(tab.page.locator(".head .outcome")).to_have_text("refused")
        tab.page.goto(f"{scene.url}/databases/jobs/act/checkpoint")
        tab.page.get_by_label("stall").fill("soon")
        tab.page.get_by_role("button", name="Dry run").click()
        expect(tab.page.get_by_role("alert")).to_contain_text("is not a number")
        tab.complaints.clear()  # the answer 409 is one for the browser


def test_actions_are_paused_and_resumed(opened: Open, scene: Scene) -> None:
    with opened("/") as tab:
        assert tab.page.get_by_role("button", name="Pause").count() == 0, "not for everybody"
        log_in(tab.page, scene.url)
        tab.page.get_by_role("button", name="Pause all actions").click()
        expect(tab.page.locator(".note.warn")).to_contain_text(
            "Actions are paused by token token from 127.0.0.1 on the page"
        )
        assert tab.serious() == []
        tab.page.goto(f"{scene.url}/databases/mail/act/checkpoint")
        tab.page.get_by_role("button", name="Run it").click()
        expect(tab.page.get_by_role("alert")).to_contain_text("actions are paused")
        tab.complaints.clear()
        tab.page.get_by_role("button", name="Resume").click()
        expect(tab.page.get_by_text("Acting is on")).to_be_visible()
        tab.page.get_by_role("button", name="Log out").click()
        expect(tab.page.get_by_role("link", name="Log in")).to_be_visible()


def test_who_fails_to_log_in_learns_nothing_and_waits_after_five(opened: Open, scene: Scene) -> None:
    with opened("/login") as tab:
        for _ in range(5):
            log_in(tab.page, scene.url, "wrong")
            expect(tab.page.get_by_role("alert")).to_contain_text("This token or password is wrong")
        assert tab.serious() == []
        log_in(tab.page, scene.url)
        expect(tab.page.get_by_role("alert")).to_contain_text("Too many attempts failed. Try again in")
        tab.complaints.clear()  # 403 and 429
    events = scene.agent.events("log in failed")
    assert [event["address"] for event in events] == ["127.0.0.1"] * 5
    assert "wrong" not in str(events)
    scene.agent.stop()  # who was wrong too often is forgotten, and every session with it
    scene.agent.start()


def test_everything_can_be_done_by_keyboard(opened: Open, scene: Scene) -> None:
    with opened("/") as tab:
        page = tab.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.goto(f"{scene.url}/login?next=/databases/mail/act/checkpoint")
        tab_to(page, "token")
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text("checkpoint on mail")
        tab_to(page, "option-mode")
        page.keyboard.type("truncate")
        tab_to(page, "Dry run")
        seen = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert seen == "solid", "where one is can be seen"
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").filter(has_text="Dry run")).to_be_visible()


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until the element with this id or text has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        here = page.evaluate("[document.activeElement.id, document.activeElement.textContent.trim()]")
        if wanted in here:
            return
    raise AssertionError(f"{wanted} cannot be reached")


def test_the_connection_lost_is_said_and_found_again(opened: Open, scene: Scene) -> None:
    with opened("/") as tab:
        expect(tab.page.locator("#live")).to_contain_text("live")
        scene.agent.stop()
        expect(tab.page.locator("#live")).to_contain_text("The connection was lost")
        scene.agent.start()
        expect(tab.page.locator("#live")).to_contain_text("updates are live", timeout=1000 * LONGEST_WAIT)
        tab.complaints.clear()  # the browser tells of what it could not reach


def quiet_context(folder: Path, *targets: Target) -> WebContext:
    return web_server.idle_context(folder, operations=idle_operations(folder, *targets))


@pytest.mark.parametrize("updates", [250, pytest.param(5000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_a_page_that_is_open_all_day_does_not_grow(chromium: Browser, tmp_path: Path, updates: int) -> None:
    shown = quiet_context(tmp_path, *(Target(f"queue{number}", tmp_path / f"{number}.db") for number in range(20)))
    with web_server.serving(shown) as url, browser.tab(chromium) as tab:
        tab.page.goto(url)
        expect(tab.page.locator("#live")).to_contain_text("live")
        tab.page.evaluate("document.body.dataset.pause = 0")
        client = tab.page.context.new_cdp_session(tab.page)
        client.send("Performance.enable")
        refresh_to(tab, shown, 50)
        before = size(client)
        refresh_to(tab, shown, 50 + updates)
        after = size(client)
    assert after["Nodes"] <= before["Nodes"] + 10
    assert after["JSEventListeners"] <= before["JSEventListeners"]
    assert after["JSHeapUsedSize"] < before["JSHeapUsedSize"] * 1.2 + 200_000, (before, after)


def refresh_to(tab: Tab, shown: WebContext, number: int) -> None:
    """Publish events until the page has refreshed so many times."""
    done = threading.Event()

    def tell() -> None:
        count = 0
        while not done.wait(0.002):
            count += 1
            shown.operations.broadcast.publish_event(
                StatusEvent("reading", {"database": "queue1", "taken_at": count}, ("reading", "queue1"))
            )

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        until(tab.page, f"Number(document.body.dataset.refreshed) >= {number}", 1500)
    finally:
        done.set()
        teller.join()


def size(client: Any) -> dict[str, float]:
    """Return the memory of the idle page: the least of ten measurements, since an answer may arrive during one."""
    return min((held(client) for _ in range(10)), key=lambda one: one["Nodes"])


def held(client: Any) -> dict[str, float]:
    """Return the memory of the page after a garbage collection."""
    sleep(0.1)
    for _ in range(3):
        client.send("HeapProfiler.collectGarbage")
    return {metric["name"]: metric["value"] for metric in client.send("Performance.getMetrics")["metrics"]}


def test_two_hundred_databases_are_one_light_page(chromium: Browser, tmp_path: Path) -> None:
    shown = quiet_context(tmp_path, *(Target(f"queue-{number:03}", tmp_path / f"{number}.db") for number in range(200)))
    with web_server.serving(shown) as url, browser.tab(chromium) as tab:
        tab.page.goto(url)
        assert tab.page.locator("tbody tr").count() == 200
        plain = httpx.get(url, headers={"Accept-Encoding": "identity"})
        assert len(plain.content) < 200_000


def test_nothing_configured_and_nothing_done_have_pages_of_their_own(chromium: Browser, tmp_path: Path) -> None:
    with web_server.serving(quiet_context(tmp_path)) as url, browser.tab(chromium) as tab:
        tab.page.goto(url)
        assert "No database matches the configuration" in tab.page.inner_text("main")
        assert "Observing only" not in tab.page.inner_text("main")
        tab.page.goto(f"{url}/history")
        assert "There are no runs yet" in tab.page.inner_text("main")
        assert tab.serious() == []
    shown = web_server.idle_context(tmp_path, not_ready=lambda: "not every database was polled yet", operations=idle_operations(
        tmp_path, Target("jobs", tmp_path / "jobs.db")))  # fmt: skip
    with web_server.serving(shown) as url, browser.tab(chromium) as tab:
        tab.page.goto(url)
        assert "Still starting: not every database was polled yet" in tab.page.inner_text("main")
        assert "Not read yet" in row(tab.page, "jobs").inner_text()
        tab.page.goto(f"{url}/databases/jobs")
        assert "No reading yet" in tab.page.inner_text("main")
        assert tab.serious() == []


def test_an_unreadable_state_store_is_shown_as_a_problem(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    shown = web_server.idle_context(
        tmp_path, operations=idle_operations(tmp_path / "state", Target("jobs", tmp_path / "jobs.db"))
    )
    with web_server.serving(shown) as url, browser.tab(chromium) as tab:
        for path, text in (
            ("/", "Problem of queuekeeper itself"),
            ("/databases/jobs", "The state store cannot be read now"),
        ):
            tab.page.goto(url + path)
            assert text in tab.page.inner_text("main")
            assert tab.serious() == []
        tab.page.goto(f"{url}/history")
        assert tab.page.get_by_role("heading", level=1).inner_text() == "The state store cannot be read"
