"""The validated web configuration: who may read, and over which transport."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The settings. `users` maps names to bcrypt hashes; when it is empty, everyone may read.

    A client certificate must have one of `allowed_names`, if set. `files` are the files that were read. `rate_interval` is in
    seconds, 0 means no limit. `http2_asked` is true where the file names http2.
    """

    files: tuple[Path, ...] = ()
    tls: ssl.SSLContext | None = None
    allowed_names: frozenset[str] | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_interval: float = 0.0
    rate_burst: int = 0
    http2_asked: bool = False
