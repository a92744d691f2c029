"""Numbers of runs in addresses. A longer one than any of ours is no number of a run: it finds nothing, and breaks nothing."""

import re

from starlette.convertors import Convertor, register_url_convertor

# Below 2 to the 63, which is what SQLite counts to; Python itself refuses to read numbers of some thousand digits.
RUN_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class _RunNumberConvertor(Convertor[int]):
    regex = RUN_NUMBER.pattern

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


def register_run_number() -> None:
    """Let routes say `{id:run}`."""
    register_url_convertor("run", _RunNumberConvertor())
