"""Parses the payloads of the webhook: Alertmanager's, version 4, and Grafana Alerting's, which says version 1.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
Unknown fields are ignored (newer versions add some); the fields that select a run must be present and be text.
"""

import hashlib
import json
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actions.policy.alerts import DeliveredAlert, Delivery

MAX_DEPTH = 16
MAX_ALERTS = 10_000
ALERTMANAGER, GRAFANA = "4", "1"
_JSON_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKET_PAIR = re.compile(r"\[\]|\{\}")
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")


class InvalidPayload(Exception):
    """A delivery cannot be parsed; the message says why, for the sender's log."""


class _AlertPayload(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    fingerprint: str = Field("", max_length=200)
    starts_at: str = Field("", alias="startsAt", max_length=100)


class _DeliveryPayload(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    receiver: str = Field("", max_length=1000)
    truncated: int = Field(0, alias="truncatedAlerts", ge=0, le=1_000_000)
    alerts: list[_AlertPayload] = Field(max_length=MAX_ALERTS)


def parse_webhook_delivery(body: bytes) -> Delivery:
    """Return the alerts of a delivery, each with its own status. Raises InvalidPayload."""
    data = parse_strict_json(body)
    if not isinstance(data, dict):
        raise InvalidPayload("the body is not a JSON object")
    _check_version(data)
    try:
        payload = _DeliveryPayload.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"][:4])
        raise InvalidPayload(f"{place}: {first['msg']}") from error
    return Delivery(tuple(_alert_from_payload(alert, payload.receiver) for alert in payload.alerts), payload.truncated)


def _check_version(data: dict[str, object]) -> None:
    """Reject unknown versions. Grafana's has an orgId: version 1 of another sender would be another format."""
    version = data.get("version")
    if version == ALERTMANAGER or (version == GRAFANA and isinstance(data.get("orgId"), int)):
        return
    raise InvalidPayload(
        f'payload version {str(version)[:20]!r} is not known; only Alertmanager\'s "4" and Grafana\'s "1" are'
    )


def _alert_from_payload(payload: _AlertPayload, receiver: str) -> DeliveredAlert:
    fingerprint = payload.fingerprint or _label_fingerprint(payload.labels)
    return DeliveredAlert(payload.status, payload.labels, fingerprint, payload.starts_at, receiver)


def _label_fingerprint(labels: dict[str, str]) -> str:
    """Return a fingerprint of the label set, for a sender that gives none."""
    return hashlib.sha256(json.dumps(sorted(labels.items())).encode()).hexdigest()[:16]


def parse_strict_json(body: bytes) -> object:
    """Parse JSON that is UTF-8, not nested deeper than MAX_DEPTH, and has no duplicate keys. Raises InvalidPayload."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidPayload("the body is not UTF-8") from error
    if _is_too_deep(text):
        raise InvalidPayload(f"the JSON is nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant)
    except ValueError as error:
        raise InvalidPayload(f"the body is not JSON: {error}") from error


def _is_too_deep(text: str) -> bool:
    """Return whether brackets outside of strings are nested deeper than MAX_DEPTH, without a parser's recursion.

    The innermost pairs are removed once for each allowed level; a pair that remains is nested deeper. Brackets that are never
    closed count as well.
    """
    brackets = _NO_BRACKETS.sub("", _JSON_STRING.sub("", text))
    for _ in range(MAX_DEPTH):
        brackets = _BRACKET_PAIR.sub("", brackets)
    return "[]" in brackets or "{}" in brackets or brackets.count("[") + brackets.count("{") > MAX_DEPTH


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object, or raise ValueError for a duplicate key: RFC 8259 does not say which of two equal keys counts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is given twice")
    return members


def _reject_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")
