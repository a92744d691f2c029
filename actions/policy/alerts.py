"""Alerts as Alertmanager delivered them. Their values are untrusted text: they only select a rule and a database."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DeliveredAlert:
    """One alert of a delivery. `fingerprint` identifies the alert's label set.

    `starts_at` is kept as text: it moves between notifications, so it identifies nothing.
    """

    status: Literal["firing", "resolved"]
    labels: Mapping[str, str]
    fingerprint: str
    starts_at: str = ""
    receiver: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST of Alertmanager: its alerts, and how many it left out (`max_alerts`)."""

    alerts: tuple[DeliveredAlert, ...]
    truncated: int
