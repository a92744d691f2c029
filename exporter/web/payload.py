"""Alertmanager's webhook payload, version 4: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config

Unknown fields are ignored (newer versions add some); what we act on must be there and be text.
"""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actions.policy.alerts import Alert

MAX_DEPTH = 16
MAX_ALERTS = 10_000


class BadPayload(Exception):
    """The delivery cannot be understood; the message says why, for Alertmanager's log."""


class _Alert(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    fingerprint: str = Field(min_length=1, max_length=200)
    starts_at: str = Field("", alias="startsAt", max_length=100)


class _Delivery(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    version: str
    receiver: str = Field("", max_length=1000)
    truncated: int = Field(0, alias="truncatedAlerts", ge=0)
    alerts: list[_Alert] = Field(max_length=MAX_ALERTS)


def parse(body: bytes) -> tuple[tuple[Alert, ...], int]:
    """The alerts of a delivery, each with its own status, and how many Alertmanager left out. Raises BadPayload."""
    data = strict_json(body)
    if not isinstance(data, dict):
        raise BadPayload("the body is not a JSON object")
    if data.get("version") != "4":
        raise BadPayload(f'payload version {str(data.get("version"))[:20]!r} is not known; only Alertmanager\'s "4" is')
    try:
        delivery = _Delivery.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadPayload(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    return tuple(_alert(found, delivery.receiver) for found in delivery.alerts), delivery.truncated


def _alert(found: _Alert, receiver: str) -> Alert:
    return Alert(found.status, found.labels, found.fingerprint, found.starts_at, receiver)


def strict_json(body: bytes) -> object:
    """What a body says, when it is UTF-8, not nested deeply, and says each thing once. Raises BadPayload."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadPayload("the body is not UTF-8") from error
    if _depth(text) > MAX_DEPTH:
        raise BadPayload(f"the JSON is nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (json.JSONDecodeError, ValueError) as error:
        raise BadPayload(f"the body is not JSON: {error}") from error


def _depth(text: str) -> int:
    """The deepest nesting, without a parser's recursion: brackets outside of strings."""
    deepest = depth = 0
    in_string = escaped = False
    for letter in text:
        if in_string:
            in_string, escaped = escaped or letter != '"', not escaped and letter == "\\"
        elif letter == '"':
            in_string = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """RFC 8259 leaves it open which of two equal keys counts; what we act on must not be open."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")
