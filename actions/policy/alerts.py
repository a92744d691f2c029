"""Alerts as Alertmanager delivered them. Their values are untrusted text: they only select."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DeliveredAlert:
    """`fingerprint` identifies the alert's label set; `starts_at` is as written: it moves between notifications."""

    status: Literal["firing", "resolved"]
    labels: Mapping[str, str]
    fingerprint: str
    starts_at: str = ""
    receiver: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST: its alerts, and how many the sender left out (`max_alerts`)."""

    alerts: tuple[DeliveredAlert, ...]
    truncated: int
