"""The web configuration file as it is written: the format that all Prometheus exporters share, strict.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. docs/web.md lists what is rejected
here although other exporters accept it, with the reason.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exporter.config.schema import ConfigPart
from exporter.config.sizes import parse_duration, quote_value
from exporter.web_config.ciphers import CURVES, SUITES, VERSIONS

CLIENT_AUTH = {
    "": "none",
    "NoClientCert": "none",
    "VerifyClientCertIfGiven": "optional",
    "RequireAndVerifyClientCert": "required",
}
_UNVERIFIED_MODES = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
# The headers that may be set, and their allowed values (None allows all).
HEADERS: dict[str, tuple[str, ...] | None] = {
    "Strict-Transport-Security": None,
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": None,
    "Content-Security-Policy": None,
}


def _check_client_auth(value: object) -> str:
    if value in _UNVERIFIED_MODES:
        raise ValueError(
            f"{value} accepts client certificates without verifying them, which is not supported; "
            "write RequireAndVerifyClientCert with client_ca_file, or VerifyClientCertIfGiven"
        )
    if not isinstance(value, str) or value not in CLIENT_AUTH:
        raise ValueError(f"{quote_value(value)} is not known; write one of {', '.join(list(CLIENT_AUTH)[1:])}")
    return CLIENT_AUTH[value]


def _check_suite(value: object) -> str:
    if value not in SUITES:
        raise ValueError(
            f"unknown cipher: {quote_value(value)}; the names are Go's, like TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        )
    return str(value)


def _check_curve(value: object) -> str:
    if value not in CURVES:
        raise ValueError(f"unknown curve: {quote_value(value)}; known: {', '.join(CURVES)}")
    return str(value)


def _check_version(value: object) -> str:
    if value not in VERSIONS:
        raise ValueError(f"unknown TLS version: {quote_value(value)}; known: {', '.join(VERSIONS)}")
    return str(value)


def _names_as_text(value: object) -> object:
    """Turn names that YAML read as numbers back into text."""
    if not isinstance(value, dict):
        return value
    return {str(key) if isinstance(key, int | float) else key: item for key, item in value.items()}


def _default_if_none(default: Any) -> BeforeValidator:
    """Return a validator that uses the default for a key without a value."""
    return BeforeValidator(lambda value: default if value is None else value)


OptionalText = Annotated[str, _default_if_none("")]


class TlsPart(ConfigPart):
    """The certificate, the client certificates that are required, and the encryption."""

    cert: OptionalText = ""
    key: OptionalText = Field(default="", repr=False)
    client_ca: OptionalText = ""
    cert_file: OptionalText = ""
    key_file: OptionalText = ""
    client_auth_type: Annotated[str, BeforeValidator(_check_client_auth), _default_if_none("")] = "none"
    client_ca_file: OptionalText = ""
    client_allowed_sans: list[str] | None = None
    cipher_suites: Annotated[list[Annotated[str, BeforeValidator(_check_suite)]], _default_if_none([])] = Field(
        default_factory=list
    )
    curve_preferences: Annotated[list[Annotated[str, BeforeValidator(_check_curve)]], _default_if_none([])] = Field(
        default_factory=list
    )
    min_version: Annotated[str, BeforeValidator(_check_version), _default_if_none("TLS12")] = "TLS12"
    max_version: Annotated[str, BeforeValidator(_check_version), _default_if_none("TLS13")] = "TLS13"
    prefer_server_cipher_suites: Annotated[bool, _default_if_none(True)] = True

    @property
    def is_wanted(self) -> bool:
        """Whether any of its keys enables TLS."""
        given = (self.cert, self.key, self.client_ca, self.cert_file, self.key_file, self.client_ca_file)
        return any(given) or "client_auth_type" in self.model_fields_set


class HttpPart(ConfigPart):
    """Headers of answers. `http2` is accepted but not used: clients fall back to HTTP/1.1."""

    http2: Annotated[bool, _default_if_none(True)] = True
    headers: Annotated[dict[str, str], _default_if_none({})] = Field(default_factory=dict)


class RatePart(ConfigPart):
    """The limit of requests: one each `interval` seconds after a burst; an interval of 0 means no limit."""

    interval: Annotated[float, BeforeValidator(parse_duration), _default_if_none(0)] = 0.0
    burst: Annotated[int, Field(ge=0), _default_if_none(0)] = 0


class WebFile(ConfigPart):
    """The whole web configuration file."""

    tls_server_config: Annotated[TlsPart, _default_if_none({})] = TlsPart()
    http_server_config: Annotated[HttpPart, _default_if_none({})] = HttpPart()
    basic_auth_users: Annotated[dict[str, str], BeforeValidator(_names_as_text), _default_if_none({})] = Field(
        default_factory=dict, repr=False
    )
    rate_limit: Annotated[RatePart, _default_if_none({})] = RatePart()
