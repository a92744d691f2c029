"""Draws the dashboards with Grafana's own components over a real Prometheus that scrapes `queuekeeper demo`.

`python -m grafana.draw.draw [--minutes 3]` writes docs/pictures/*.png, and beside them drawn.json with what they show.
It needs node and npm, chromium, prometheus and alertmanager, and Pillow to keep the pictures small; nothing in the tests
depends on it. Panels' frames, numbers, curves, tables, colours and units are Grafana's (npm packages @grafana/ui and
@grafana/data); the boxes of state timelines and tables, and the marks of annotations, are ours.
"""

import json
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import click

from grafana.draw.facts import is_within_lines, panel_titles, query_facts, write_facts
from grafana.draw.watched import BEFORE, ROOT, run_demo, run_prometheus

HERE = Path(__file__).resolve().parent
DIST, PICTURES = HERE / "dist", ROOT / "docs" / "pictures"
BUNDLE = (
    "page.jsx --bundle --outfile=dist/page.js --format=iife --jsx=automatic --minify --define:global=window "
    '--define:process.env.NODE_ENV="production" --loader:.svg=dataurl --loader:.woff2=dataurl --loader:.ttf=dataurl '
    "--loader:.wasm=dataurl --loader:.png=dataurl --alias:react-router-dom-v5-compat=react-router-dom"
)
HTML = '<link rel=stylesheet href=page.css><body style="margin:0"><div id=root></div><script src=page.js></script>'
WIDTH, LINE, REST = 1456, 36, 62  # as page.jsx lays it out


@dataclass(frozen=True, slots=True)
class DashboardShot:
    """One picture: a dashboard between two lines of its grid, in one theme."""

    name: str
    board: str
    theme: str
    lines: tuple[int, int] = (0, 1000)

    @property
    def picture_path(self) -> Path:
        """Where it is written."""
        return PICTURES / f"{self.name}-{self.theme}.png"


# Where the lower half of the dashboard of one database begins.
LOWER = 47
SHOTS = (
    DashboardShot("overview", "overview", "dark"),
    DashboardShot("overview", "overview", "light"),
    DashboardShot("database", "database", "dark", (0, LOWER)),
    DashboardShot("database-files", "database", "light", (LOWER, 1000)),
    DashboardShot("itself", "itself", "light"),
)


def build_bundle() -> None:
    """Make dist/ of the page and the dashboards."""
    npm = ["npm", "install", "--legacy-peer-deps", "--no-package-lock", "--no-audit", "--no-fund"]
    if not (HERE / "node_modules").exists():
        subprocess.run(npm, cwd=HERE, check=True)
    DIST.mkdir(exist_ok=True)
    subprocess.run([HERE / "node_modules/.bin/esbuild", *BUNDLE.split()], cwd=HERE, check=True)
    for board in (ROOT / "grafana" / "dashboards").glob("*.json"):
        shutil.copy(board, DIST)
    (DIST / "index.html").write_text(HTML)


class BundleHandler(SimpleHTTPRequestHandler):
    """The bundle, and Prometheus' API under the same address."""

    prometheus = ""

    def do_GET(self) -> None:
        """Hand on what asks Prometheus, serve the rest."""
        if not self.path.startswith("/api/"):
            super().do_GET()
            return
        try:
            with urllib.request.urlopen(self.prometheus + self.path) as reply:
                status, body = reply.status, reply.read()
        except HTTPError as error:
            status, body = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Quiet."""


@contextmanager
def serve_bundle() -> Iterator[str]:
    """Where the page is, `host:port`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(BundleHandler, directory=str(DIST))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def take_picture(address: str, shot: DashboardShot, end: int, seconds: int) -> list[str]:
    """Take one picture of the `seconds` before `end`; the titles of its panels."""
    board = json.loads((DIST / f"{shot.board}.json").read_text())
    places = [each["gridPos"] for each in board["panels"] if is_within_lines(each, shot.lines)]
    grid = max(each["y"] + each["h"] for each in places) - min(each["y"] for each in places)
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=15000"]
        flags += [f"--window-size={WIDTH},{grid * LINE + REST}", f"--user-data-dir={profile}"]
        url = f"http://{address}/index.html?dashboard={shot.board}&theme={shot.theme}&end={end}&range={seconds}"
        url += f"&first={shot.lines[0]}&last={shot.lines[1]}" + ("&database=jobs" if shot.board == "database" else "")
        line = ["chromium", *flags, f"--screenshot={shot.picture_path}", url]
        subprocess.run(line, check=True, capture_output=True, timeout=120)
    _shrink_picture(shot.picture_path)
    return panel_titles(board, shot.lines)


def _shrink_picture(picture: Path) -> None:
    """A palette of 128 colours is enough for lines and letters."""
    from PIL import Image

    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)


@click.command()
@click.option("--minutes", default=3.0, help="How long the demo plays before the pictures are taken.")
@click.option("--port", default=19090, help="The port of Prometheus.")
def main(minutes: float, port: int) -> None:
    """Play the demo, then take the pictures."""
    build_bundle()
    PICTURES.mkdir(exist_ok=True)
    BundleHandler.prometheus = f"http://127.0.0.1:{port}"
    with run_demo() as watched, run_prometheus(watched, port), serve_bundle() as address:
        watched.resume_story()
        time.sleep(minutes * 60)
        end, seconds = int(time.time()), int(minutes * 60) + BEFORE
        what = query_facts(BundleHandler.prometheus, end, seconds)
        drawn = [(shot.picture_path, take_picture(address, shot, end, seconds)) for shot in SHOTS]
        write_facts(PICTURES, what, drawn)
    for picture, panels in drawn:
        click.echo(f"{picture}: {picture.stat().st_size} bytes, {len(panels)} panels")


if __name__ == "__main__":
    main()
