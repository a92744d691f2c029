"""The page's templates, and what they share: how values read, where links lead, who looks."""

import gzip
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from exporter.page import words
from exporter.text.units import figures_in_words, format_time

FOLDER = Path(__file__).parent
ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. `may_act`: as whom, empty: not at all, and `why_not` says why. `form_key` proves that a form is ours."""

    may_act: str
    why_not: str
    can_log_in: bool
    logged_in: bool
    form_key: str


class PageTemplates:
    """Of one agent, mounted at `prefix`."""

    def __init__(self, prefix: str, version: str, telemetry_path: str) -> None:
        self.assets = {name: (FOLDER / "assets" / name).read_bytes() for name in ASSETS}
        marks = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in self.assets.items()}
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            amount=words.format_amount,
            count=words.format_count,
            moment=format_time,
            ago=_time_ago,
            figures=figures_in_words,
            name=url_path,
        )
        self._environment.globals.update(
            prefix=prefix,
            version=version,
            telemetry=prefix + telemetry_path,
            asset=lambda name: f"{prefix}/assets/{name}?v={marks[name]}",
            words=words,
        )

    def render_html(self, template: str, **context: object) -> str:
        """One page."""
        return self._environment.get_template(template).render(now=time.time(), **context)


def url_path(name: str) -> str:
    """A database's name as a part of a path; a slash in it stays one."""
    return quote(name, safe="/", errors="surrogateescape")


def compress_body(body: bytes) -> bytes:
    """For who takes gzip; level 1 is a fifth of the time for an eighth more bytes."""
    return gzip.compress(body, compresslevel=1)


def _time_ago(at: float | None, now: float) -> str:
    """`12 s ago`, or `never`."""
    if at is None:
        return "never"
    seconds = max(0, round(now - at))
    return f"{seconds}\N{NO-BREAK SPACE}s ago" if seconds < 60 else f"{words.format_amount(seconds, 'seconds')} ago"
