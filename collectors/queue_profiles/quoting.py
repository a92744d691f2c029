"""Quotes names and texts for SQL. The one copy: actions use it too. Pure."""


def quote_identifier(name: str) -> str:
    """An identifier as SQL (https://sqlite.org/lang_keywords.html)."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"
