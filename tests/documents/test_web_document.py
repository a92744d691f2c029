"""docs/web.md names every field of the API, every option of the HTTP server, every picture."""

import dataclasses
import re
from pathlib import Path

from exporter.commands.serve import serve
from exporter.status import database

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "web.md").read_text()


def test_every_field_of_a_database_is_documented() -> None:
    ours = [value for value in vars(database).values() if getattr(value, "__module__", "") == database.__name__]
    values = [value for value in ours if dataclasses.is_dataclass(value) and value is not database.StatusInputs]
    fields = {field.name for value in values for field in dataclasses.fields(value)}
    assert len(values) > 5
    assert {name for name in fields if f"`{name}`" not in TEXT} == set()


def test_every_option_of_the_http_server_is_documented() -> None:
    options = {name for option in serve.params for name in option.opts if name.startswith("--web")}
    assert {name for name in options if f"`{name}`" not in TEXT} == set()


def test_every_picture_is_there_and_shown() -> None:
    named = set(re.findall(r"page/([\w-]+\.png)", TEXT))
    assert named == {path.name for path in (DOCS / "page").glob("*.png")}
    assert all((DOCS / "page" / name).stat().st_size < 100_000 for name in named)
