"""Reads recorded data for `simulate`: deliveries to the webhook, readings of queuekeeper, and answers of Prometheus.

A file has any number of JSON values one after the other, or in an array. Each is one of:
* a payload of Alertmanager or Grafana, or {"at": SECONDS, "payload": {...}} with the time of its delivery;
* the output of `queuekeeper stats DB --json`;
* the answer of Prometheus to /api/v1/query_range (a matrix), with the series that the rules use.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from actions.policy.simulate import RecordedDelivery, RecordedReading
from collectors.metric import Metric, Sample
from exporter.web.webhook_payload import InvalidPayload, parse_webhook_delivery

_SPACE = re.compile(r"\s*")
MAX_BYTES = 256 * 1024 * 1024


class UnreadableRecording(Exception):
    """The file cannot be replayed; the message is one line with the next step."""


def read_recordings(
    path: Path, metrics: Mapping[str, Metric], now: float, identity: str | None = None
) -> list[RecordedReading | RecordedDelivery]:
    """The deliveries and readings of one file. Raises UnreadableRecording.

    `now`: the time of a delivery without one; `identity`: the label `instance` of the series to use.
    """
    records: list[RecordedReading | RecordedDelivery] = []
    for value in _json_values(path):
        records += _parse_value(path, value, metrics, now, identity)
    if not records:
        raise UnreadableRecording(f"{path}: nothing in it that can be replayed; see `queuekeeper simulate --help`")
    return records


def _json_values(path: Path) -> Iterator[dict[str, Any]]:
    text = _read_text(path)
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except ValueError as error:
            raise UnreadableRecording(
                f"{path}: not JSON: {error}; save the body of a delivery, or `stats --json`"
            ) from error
        yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict))
        space = _SPACE.match(text, place)
        place = place if space is None else space.end()


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableRecording(
                f"{path}: larger than {MAX_BYTES} bytes; ask Prometheus for a shorter time or a longer step"
            )
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise UnreadableRecording(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableRecording(f"{path}: not UTF-8 text") from error


def _parse_value(
    path: Path, value: Mapping[str, Any], metrics: Mapping[str, Metric], now: float, identity: str | None
) -> list[RecordedReading | RecordedDelivery]:
    try:
        if "alerts" in value:
            return [_parse_delivery(value, now)]
        if "payload" in value:
            return [_parse_delivery(value["payload"], float(value.get("at", now)))]
        if "taken_at" in value:
            return [_parse_reading(value, metrics)]
        if "data" in value:
            return list(_parse_prometheus(value["data"], metrics, identity))
    except (InvalidPayload, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableRecording(f"{path}: cannot be understood: {error}") from error
    return []


def _parse_delivery(payload: object, at: float) -> RecordedDelivery:
    return RecordedDelivery(at, parse_webhook_delivery(json.dumps(payload).encode()))


def _parse_reading(value: Mapping[str, Any], metrics: Mapping[str, Metric]) -> RecordedReading:
    samples = (_build_sample(metrics.get(row["name"]), row["labels"], row["value"]) for row in value["samples"])
    failed = frozenset(name for name, result in value.get("collectors", {}).items() if not result["success"])
    known = tuple(sample for sample in samples if sample is not None)
    return RecordedReading(float(value["taken_at"]), str(value["database"]), known, failed)


def _parse_prometheus(
    data: Mapping[str, Any], metrics: Mapping[str, Metric], identity: str | None
) -> Iterator[RecordedReading]:
    """One reading for each database and time. queuekeeper_collector_success 0 marks a failed collector."""
    if data.get("resultType") != "matrix":
        raise ValueError(f"a {data.get('resultType')} of Prometheus; ask /api/v1/query_range")
    samples: dict[tuple[float, str], list[Sample]] = defaultdict(list)
    failed: dict[tuple[float, str], set[str]] = defaultdict(set)
    for series in data["result"]:
        labels = series["metric"]
        if identity is not None and labels.get("instance", identity) != identity:
            continue
        for at, value in series["values"]:
            place = (float(at), labels.get("database", ""))
            sample = _build_sample(metrics.get(labels.get("__name__", "")), labels, value)
            if sample is not None:
                samples[place].append(sample)
            elif labels.get("__name__") == "queuekeeper_collector_success" and float(value) == 0:
                failed[place].add(labels.get("collector", ""))
    for at, database in sorted({*samples, *failed}):
        if database:
            yield RecordedReading(at, database, tuple(samples[at, database]), frozenset(failed[at, database]))


def _build_sample(metric: Metric | None, labels: Mapping[str, str], value: str | float) -> Sample | None:
    return None if metric is None else metric(float(value), *(labels.get(name, "") for name in metric.labels))
