"""The web configuration after its file was read: who may read, and over what. Nothing checks it again."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WebConfig:
    """`users`: name to bcrypt hash, empty: anybody may read. `allowed_names`: what a client certificate must name, if set.

    `files`: what it was read from. `rate_interval` in seconds, 0: no limit. `http2`: asked for by name.
    """

    files: tuple[Path, ...] = ()
    tls: ssl.SSLContext | None = None
    allowed_names: frozenset[str] | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_interval: float = 0.0
    rate_burst: int = 0
    http2_asked: bool = False
