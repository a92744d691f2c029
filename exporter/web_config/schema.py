"""The web configuration file as it is written: the format that all Prometheus exporters share, strict.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What is refused here although others
take it is listed, with the reason, in docs/web.md.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exporter.config.schema import Part
from exporter.config.sizes import parse_duration, shown
from exporter.web_config.ciphers import CURVES, SUITES, VERSIONS

CLIENT_AUTH = {
    "": "none",
    "NoClientCert": "none",
    "VerifyClientCertIfGiven": "optional",
    "RequireAndVerifyClientCert": "required",
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
# What may be set, and to what (None: anything).
HEADERS: dict[str, tuple[str, ...] | None] = {
    "Strict-Transport-Security": None,
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": None,
    "Content-Security-Policy": None,
}


def _client_auth(value: object) -> str:
    if value in _UNVERIFIED:
        raise ValueError(
            f"{value} takes client certificates without verifying them, which cannot be done here; "
            "write RequireAndVerifyClientCert with client_ca_file, or VerifyClientCertIfGiven"
        )
    if not isinstance(value, str) or value not in CLIENT_AUTH:
        raise ValueError(f"{shown(value)} is not known; write one of {', '.join(list(CLIENT_AUTH)[1:])}")
    return CLIENT_AUTH[value]


def _suite(value: object) -> str:
    if value not in SUITES:
        raise ValueError(
            f"unknown cipher: {shown(value)}; the names are Go's, like TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        )
    return str(value)


def _curve(value: object) -> str:
    if value not in CURVES:
        raise ValueError(f"unknown curve: {shown(value)}; known: {', '.join(CURVES)}")
    return str(value)


def _version(value: object) -> str:
    if value not in VERSIONS:
        raise ValueError(f"unknown TLS version: {shown(value)}; known: {', '.join(VERSIONS)}")
    return str(value)


def _named(value: object) -> object:
    """A name that YAML reads as a number is a name."""
    if not isinstance(value, dict):
        return value
    return {str(key) if isinstance(key, int | float) else key: one for key, one in value.items()}


def _or(default: Any) -> BeforeValidator:
    """A key without a value says nothing."""
    return BeforeValidator(lambda value: default if value is None else value)


Word = Annotated[str, _or("")]


class TlsPart(Part):
    """Certificates, what clients must show, and how it is encrypted."""

    cert: Word = ""
    key: Word = Field(default="", repr=False)
    client_ca: Word = ""
    cert_file: Word = ""
    key_file: Word = ""
    client_auth_type: Annotated[str, BeforeValidator(_client_auth), _or("")] = "none"
    client_ca_file: Word = ""
    client_allowed_sans: list[str] | None = None
    cipher_suites: Annotated[list[Annotated[str, BeforeValidator(_suite)]], _or([])] = Field(default_factory=list)
    curve_preferences: Annotated[list[Annotated[str, BeforeValidator(_curve)]], _or([])] = Field(default_factory=list)
    min_version: Annotated[str, BeforeValidator(_version), _or("TLS12")] = "TLS12"
    max_version: Annotated[str, BeforeValidator(_version), _or("TLS13")] = "TLS13"
    prefer_server_cipher_suites: Annotated[bool, _or(True)] = True

    @property
    def wanted(self) -> bool:
        """Whether anything of it asks for TLS."""
        given = (self.cert, self.key, self.client_ca, self.cert_file, self.key_file, self.client_ca_file)
        return any(given) or "client_auth_type" in self.model_fields_set


class HttpPart(Part):
    """`http2` is taken and not spoken: clients agree on HTTP/1.1."""

    http2: Annotated[bool, _or(True)] = True
    headers: Annotated[dict[str, str], _or({})] = Field(default_factory=dict)


class RatePart(Part):
    """One request each `interval` seconds, after a burst. An interval of 0: no limit."""

    interval: Annotated[float, BeforeValidator(parse_duration), _or(0)] = 0.0
    burst: Annotated[int, Field(ge=0), _or(0)] = 0


class WebFile(Part):
    """The whole file."""

    tls_server_config: Annotated[TlsPart, _or({})] = TlsPart()
    http_server_config: Annotated[HttpPart, _or({})] = HttpPart()
    basic_auth_users: Annotated[dict[str, str], BeforeValidator(_named), _or({})] = Field(
        default_factory=dict, repr=False
    )
    rate_limit: Annotated[RatePart, _or({})] = RatePart()
