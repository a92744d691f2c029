"""A JSON answer that any text fits into: a file's name need not be UTF-8, and one such name must not cost the others theirs."""

import json

from starlette.responses import JSONResponse


class AsciiJsonResponse(JSONResponse):
    """In ASCII: what is no Unicode, like a byte of a file's name, is told as the escape that Python reads it as."""

    def render(self, content: object) -> bytes:
        """The body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
