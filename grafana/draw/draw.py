"""Draws the dashboards with Grafana's own components over a real Prometheus that scrapes `queuekeeper demo`.

`python -m grafana.draw.draw [--minutes 7]` writes docs/pictures/*.png. It needs node and npm, chromium, prometheus, and
Pillow to keep the pictures small; nothing in the tests depends on it. Panels' frames, numbers, curves, tables, colours
and units are Grafana's (npm packages @grafana/ui and @grafana/data); the boxes of state timelines and tables are ours.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import click

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DIST, PICTURES = HERE / "dist", ROOT / "docs" / "pictures"
BUNDLE = (
    "page.jsx --bundle --outfile=dist/page.js --format=iife --jsx=automatic --minify --define:global=window "
    '--define:process.env.NODE_ENV="production" --loader:.svg=dataurl --loader:.woff2=dataurl --loader:.ttf=dataurl '
    "--loader:.wasm=dataurl --loader:.png=dataurl --alias:react-router-dom-v5-compat=react-router-dom"
)
HTML = '<link rel=stylesheet href=page.css><body style="margin:0"><div id=root></div><script src=page.js></script>'
WIDTH, LINE, REST = 1456, 36, 62  # as page.jsx lays it out
# Dashboard, theme, how many lines of the grid are shown (0: all).
SHOTS = (("overview", "dark", 0), ("overview", "light", 0), ("database", "dark", 42), ("itself", "light", 0))


def bundle() -> None:
    """Make dist/ of the page and the dashboards."""
    npm = ["npm", "install", "--legacy-peer-deps", "--no-package-lock", "--no-audit", "--no-fund"]
    if not (HERE / "node_modules").exists():
        subprocess.run(npm, cwd=HERE, check=True)
    DIST.mkdir(exist_ok=True)
    subprocess.run([HERE / "node_modules/.bin/esbuild", *BUNDLE.split()], cwd=HERE, check=True)
    for board in (ROOT / "grafana" / "dashboards").glob("*.json"):
        shutil.copy(board, DIST)
    (DIST / "index.html").write_text(HTML)


@contextmanager
def demo() -> Iterator[str]:
    """`queuekeeper demo`; where its agent listens."""
    command = [sys.executable, "-u", "-m", "exporter.commands", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout
        if output is None:
            raise RuntimeError("the demo says nothing")
        try:
            pages = (re.search(r"metrics +http://(\S+)/metrics", line) for line in output)
            yield next(found[1] for found in pages if found)
        finally:
            process.terminate()


@contextmanager
def prometheus(agent: str, port: int) -> Iterator[None]:
    """A Prometheus with the shipped rules that scrapes the agent every second."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n"
            f"rule_files: ['{ROOT}/grafana/alerts/queuekeeper.yaml']\n"
            f"scrape_configs: [{{job_name: queuekeeper, static_configs: [{{targets: ['{agent}']}}]}}]\n"
        )
        program = shutil.which("prometheus") or str(ROOT / ".real/usr/bin/prometheus")
        flags = [
            f"--config.file={config}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with subprocess.Popen([program, *flags, "--log.level=error"]) as process:
            try:
                yield
            finally:
                process.terminate()


class Page(SimpleHTTPRequestHandler):
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


def shoot(address: str, board: str, theme: str, lines: int, seconds: int) -> Path:
    """One picture."""
    panels = json.loads((DIST / f"{board}.json").read_text())["panels"]
    ends = [each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels]
    height = max(end for end in ends if not lines or end <= lines) * LINE + REST
    picture = PICTURES / f"{board}-{theme}.png"
    chosen = "&database=jobs" if board == "database" else ""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=15000"]
        flags += [f"--window-size={WIDTH},{height}", f"--user-data-dir={profile}", f"--screenshot={picture}"]
        url = f"http://{address}/index.html?dashboard={board}&theme={theme}&range={seconds}&lines={lines}{chosen}"
        subprocess.run(["chromium", *flags, url], check=True, capture_output=True, timeout=120)
    _shrink(picture)
    return picture


def _shrink(picture: Path) -> None:
    """A palette of 128 colours is enough for lines and letters."""
    from PIL import Image

    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)


@click.command()
@click.option("--minutes", default=7.0, help="How long the demo plays before the pictures are taken.")
@click.option("--port", default=19090, help="Where Prometheus listens meanwhile.")
def main(minutes: float, port: int) -> None:
    """Play the demo, then take the pictures."""
    bundle()
    PICTURES.mkdir(exist_ok=True)
    Page.prometheus = f"http://127.0.0.1:{port}"
    with demo() as agent, prometheus(agent, port):
        time.sleep(minutes * 60)
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Page, directory=str(DIST))) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for board, theme, lines in SHOTS:
                picture = shoot(f"127.0.0.1:{server.server_port}", board, theme, lines, int(minutes * 60))
                click.echo(f"{picture}: {picture.stat().st_size} bytes")
            server.shutdown()


if __name__ == "__main__":
    main()
