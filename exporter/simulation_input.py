"""What was recorded, from a file: deliveries to the webhook, our own readings, and what Prometheus kept of them.

Any number of JSON values one after the other, or in an array. Each is one of:
* a payload of Alertmanager or Grafana, or {"at": SECONDS, "payload": {...}} to say when it came;
* the output of `queuekeeper stats DB --json`;
* the answer of Prometheus to /api/v1/query_range (a matrix), of as many series as the rules look at.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from actions.policy.simulate import Reading, Told
from collectors.metric import Metric, Sample
from exporter.web.webhook_payload import BadPayload, parse

_SPACE = re.compile(r"\s*")
MAX_BYTES = 256 * 1024 * 1024


class NoRecording(Exception):
    """The file cannot be replayed; the message is one line with the next step."""


def recorded(
    path: Path, metrics: Mapping[str, Metric], now: float, identity: str | None = None
) -> list[Reading | Told]:
    """Everything in one file. Raises NoRecording.

    `now`: when a delivery came that does not say; `identity`: whose series of several (the label `instance`).
    """
    found: list[Reading | Told] = []
    for value in _values(path):
        found += _moments(path, value, metrics, now, identity)
    if not found:
        raise NoRecording(f"{path}: nothing in it that can be replayed; see `queuekeeper simulate --help`")
    return found


def _values(path: Path) -> Iterator[dict[str, Any]]:
    text = _text(path)
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except ValueError as error:
            raise NoRecording(f"{path}: not JSON: {error}; save the body of a delivery, or `stats --json`") from error
        yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict))
        space = _SPACE.match(text, place)
        place = place if space is None else space.end()


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NoRecording(
                f"{path}: larger than {MAX_BYTES} bytes; ask Prometheus for a shorter time or a longer step"
            )
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise NoRecording(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NoRecording(f"{path}: not UTF-8 text") from error


def _moments(
    path: Path, value: Mapping[str, Any], metrics: Mapping[str, Metric], now: float, identity: str | None
) -> list[Reading | Told]:
    try:
        if "alerts" in value:
            return [_told(value, now)]
        if "payload" in value:
            return [_told(value["payload"], float(value.get("at", now)))]
        if "taken_at" in value:
            return [_reading(value, metrics)]
        if "data" in value:
            return list(_of_prometheus(value["data"], metrics, identity))
    except (BadPayload, KeyError, TypeError, ValueError, AttributeError) as error:
        raise NoRecording(f"{path}: cannot be understood: {error}") from error
    return []


def _told(payload: object, at: float) -> Told:
    return Told(at, parse(json.dumps(payload).encode()))


def _reading(value: Mapping[str, Any], metrics: Mapping[str, Metric]) -> Reading:
    samples = (_sample(metrics.get(one["name"]), one["labels"], one["value"]) for one in value["samples"])
    failed = frozenset(name for name, result in value.get("collectors", {}).items() if not result["success"])
    kept = tuple(sample for sample in samples if sample is not None)
    return Reading(float(value["taken_at"]), str(value["database"]), kept, failed)


def _of_prometheus(data: Mapping[str, Any], metrics: Mapping[str, Metric], identity: str | None) -> Iterator[Reading]:
    """One reading for each database and moment. A collector has failed where queuekeeper_collector_success says so."""
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
            sample = _sample(metrics.get(labels.get("__name__", "")), labels, value)
            if sample is not None:
                samples[place].append(sample)
            elif labels.get("__name__") == "queuekeeper_collector_success" and float(value) == 0:
                failed[place].add(labels.get("collector", ""))
    for at, database in sorted({*samples, *failed}):
        if database:
            yield Reading(at, database, tuple(samples[at, database]), frozenset(failed[at, database]))


def _sample(metric: Metric | None, labels: Mapping[str, str], value: str | float) -> Sample | None:
    return None if metric is None else metric(float(value), *(labels.get(name, "") for name in metric.labels))
