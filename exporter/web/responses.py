"""What answers and routes share: a JSON response that any text fits into, and the numbers of runs in addresses."""

import json
import re
from collections.abc import Awaitable, Callable

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Handler = Callable[[Request], Awaitable[Response]]
# Numbers below 2 to the 63, which is what SQLite counts to; Python itself refuses to read numbers of some thousand digits.
# A longer number is not the number of a run, so it matches no route.
RUN_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class AsciiJsonResponse(JSONResponse):
    """A JSON response in ASCII.

    A file name need not be UTF-8: its bytes that are not Unicode are written as the escapes that Python decodes them to, so
    that one such name does not make the answer fail.
    """

    def render(self, content: object) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class _RunNumberConvertor(Convertor[int]):
    regex = RUN_NUMBER.pattern

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


def register_run_number() -> None:
    """Register the path convertor `run`, so that routes can be written `{id:run}`."""
    register_url_convertor("run", _RunNumberConvertor())
