"""A version of SQLite as an option of a command."""

import re

import click


class SqliteVersionParam(click.ParamType[str]):
    """Three numbers, as `SELECT sqlite_version()` of the application says them."""

    name = "version"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself."""
        if not re.fullmatch(r"\d+\.\d+\.\d+", str(value)):
            self.fail(f"{value!r} is not a version; write three numbers, like 3.51.3", param, ctx)
        return str(value)


SQLITE_VERSION = SqliteVersionParam()
