"""Payloads of the webhook: what is accepted, and what is rejected. Pure."""

import json
from typing import Any

import pytest

from actions.policy.alerts import DeliveredAlert
from exporter.web.webhook_payload import MAX_DEPTH, InvalidPayload, parse_webhook_delivery
from tests.support.scenes.webhook_site import alert, delivery

# As Grafana Alerting sends it: its own fields in addition to Alertmanager's; the contact point can have any name.
GRAFANA: dict[str, Any] = {
    "receiver": "queuekeeper",
    "status": "firing",
    "orgId": 1,
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "QueueStaleLeases", "database": "jobs", "grafana_folder": "queues", "instance": "a:9977"},
            "annotations": {"summary": "Tasks are held by workers that are gone."},
            "startsAt": "2026-01-01T00:00:40Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "values": {"A": 3, "C": 1},
            "valueString": "[ var='A' labels={} value=3 ]",
            "generatorURL": "http://grafana/alerting/grafana/abc/view",
            "fingerprint": "57c6d9296de2ad39",
            "silenceURL": "http://grafana/alerting/silence/new",
            "dashboardURL": "",
            "panelURL": "",
        }
    ],
    "groupLabels": {"alertname": "QueueStaleLeases"},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://grafana/",
    "version": "1",
    "groupKey": "{}:{alertname=\"QueueStaleLeases\"}",
    "truncatedAlerts": 2,
    "title": "[FIRING:1] QueueStaleLeases",
    "state": "alerting",
    "message": "**Firing**",
}  # fmt: skip


def parsed(body: object) -> Any:
    return parse_webhook_delivery(json.dumps(body).encode())


def test_alertmanagers_alerts_each_have_their_own_status() -> None:
    parsed_delivery = parsed(delivery(alert(), alert("resolved", fingerprint="beef"), truncatedAlerts=7))
    assert [(item.status, item.fingerprint, item.receiver) for item in parsed_delivery.alerts] == [
        ("firing", "c0ffee0123456789", "queuekeeper"),
        ("resolved", "beef", "queuekeeper"),
    ]
    assert parsed_delivery.truncated == 7


def test_grafanas_alerts_are_understood() -> None:
    parsed_delivery = parsed(GRAFANA)
    assert parsed_delivery.alerts == (
        DeliveredAlert(
            "firing",
            GRAFANA["alerts"][0]["labels"],
            "57c6d9296de2ad39",
            "2026-01-01T00:00:40Z",
            "queuekeeper",
        ),
    )
    assert parsed_delivery.truncated == 2


@pytest.mark.parametrize("changes", [{"orgId": "1"}, {"orgId": None}, {"version": "2"}, {"version": 1}])
def test_another_senders_version_1_is_not_grafanas(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload, match="is not known"):
        parsed({**GRAFANA, **changes})


def test_without_a_fingerprint_the_labels_are_what_identifies() -> None:
    bare = {key: value for key, value in alert().items() if key != "fingerprint"}
    turned = {**bare, "labels": dict(reversed(bare["labels"].items()))}
    other = {**bare, "labels": {**bare["labels"], "queue": "report"}}
    first, second, third = parsed(delivery(bare, turned, other)).alerts
    assert first.fingerprint == second.fingerprint != third.fingerprint
    assert len(first.fingerprint) == 16


def test_so_deep_and_no_deeper() -> None:
    def nested(levels: int) -> dict[str, Any]:
        inner: Any = 1
        for level in range(levels):
            inner = [inner] if level % 2 else {"a": inner}
        return {**delivery(), "unknown": inner}

    assert parsed(nested(MAX_DEPTH - 1)).alerts
    with pytest.raises(InvalidPayload, match="nested deeper"):
        parsed(nested(MAX_DEPTH))


@pytest.mark.parametrize("text", ["[" * 40, '"[[[[[[[[[[[[[[[[[[[[[[[[[[[[' + '\\"' * 20, "{" * 40 + "}"])
def test_what_is_never_closed_ends_as_an_error(text: str) -> None:
    with pytest.raises(InvalidPayload):
        parse_webhook_delivery(text.encode())


def test_brackets_and_quotes_within_texts_are_no_nesting() -> None:
    tricky = '[{"\\"[[[[[[[[[[[[[[[[[[[[[[[[' * 3
    (parsed_alert,) = parsed(delivery(alert(labels={"tricky": tricky}))).alerts
    assert parsed_alert.labels["tricky"] == tricky
