"""Creates the TLS context of the configuration. What cannot be done as written is rejected, never weakened or strengthened."""

import os
import ssl
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.web_config.ciphers import CURVES, SUITES, VERSIONS
from exporter.web_config.schema import TlsPart

_VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class TlsProblem(Exception):
    """The context cannot be created; `key` is the key of the configuration that causes it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def tls_files(part: TlsPart, folder: Path) -> tuple[Path, ...]:
    """Return the files of the context; relative names start at the folder of the configuration."""
    return tuple(folder / name for name in (part.cert_file, part.key_file, part.client_ca_file) if name)


def create_tls_context(part: TlsPart, folder: Path) -> ssl.SSLContext:
    """Create the context for new connections. Raises TlsProblem."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, part, folder)
    _configure_client_auth(context, part, folder)
    _choose_versions(context, part)
    _choose_ciphers(context, part)
    _choose_curve(context, part)
    return context


def _load_certificate(context: ssl.SSLContext, part: TlsPart, folder: Path) -> None:
    if not (part.cert_file or part.cert):
        raise TlsProblem("cert_file", "is missing; TLS needs cert_file and key_file (or cert and key)")
    if not (part.key_file or part.key):
        raise TlsProblem("key_file", "is missing; TLS needs cert_file and key_file (or cert and key)")
    with _as_file(part.cert_file, part.cert, folder) as cert, _as_file(part.key_file, part.key, folder) as key:
        for name, path in (("cert_file", cert), ("key_file", key)):
            if not os.access(path, os.R_OK):
                raise TlsProblem(name, f"{path} cannot be read; check the path and its permissions")
        try:
            context.load_cert_chain(cert, key, password=_reject_passphrase)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise TlsProblem("cert_file", f"certificate and key cannot be used: {_error_words(error)}") from error


def _reject_passphrase() -> str:
    """Reject a key with a passphrase; without this callback OpenSSL would ask for it at the terminal."""
    raise ValueError("the key has a passphrase; store it without one in a file that only the agent may read")


@contextmanager
def _as_file(name: str, text: str, folder: Path) -> Iterator[Path]:
    """Yield the named file, or for inline text a file in a private folder that is deleted afterwards."""
    if name:
        yield folder / name
        return
    with tempfile.TemporaryDirectory(prefix="queuekeeper-tls-") as private:
        place = Path(private) / "inline.pem"
        place.touch(0o600)
        place.write_text(text)
        yield place


def _configure_client_auth(context: ssl.SSLContext, part: TlsPart, folder: Path) -> None:
    given = part.client_ca_file or part.client_ca
    if given and part.client_auth_type == "none":
        raise TlsProblem(
            "client_auth_type", "client CAs are given but no certificate is requested; write RequireAndVerifyClientCert"
        )
    if part.client_allowed_sans is not None and part.client_auth_type != "required":
        raise TlsProblem("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
    context.verify_mode = _VERIFY_MODES[part.client_auth_type]
    if part.client_auth_type == "none":
        return
    if not given:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    with _as_file(part.client_ca_file, part.client_ca, folder) as place:
        try:
            context.load_verify_locations(place)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise TlsProblem(
                "client_ca_file", f"{part.client_ca_file} cannot be used: {_error_words(error)}"
            ) from error


def _choose_versions(context: ssl.SSLContext, part: TlsPart) -> None:
    low, high = VERSIONS[part.min_version], VERSIONS[part.max_version]
    if low > high:
        raise TlsProblem("min_version", f"{part.min_version} is above max_version {part.max_version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the configuration names an old version on purpose
        context.minimum_version, context.maximum_version = low, high


def _choose_ciphers(context: ssl.SSLContext, part: TlsPart) -> None:
    names = [SUITES[name] for name in part.cipher_suites if SUITES[name]]
    if part.cipher_suites and not names:
        context.minimum_version = ssl.TLSVersion.TLSv1_3  # only suites of TLS 1.3 are named: older versions have none
        if context.maximum_version < ssl.TLSVersion.TLSv1_3:
            raise TlsProblem("cipher_suites", f"none of these can be used up to {part.max_version}")
        return
    # OpenSSL has no suite for TLS 1.0 and 1.1 at its usual security level; a configuration that names them means them.
    level = ":@SECLEVEL=0" if VERSIONS[part.min_version] < ssl.TLSVersion.TLSv1_2 else ""
    if names or level:
        context.set_ciphers(":".join(names or ["DEFAULT"]) + level)
    if part.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _choose_curve(context: ssl.SSLContext, part: TlsPart) -> None:
    if len(part.curve_preferences) > 1:
        raise TlsProblem("curve_preferences", "only one curve can be chosen here; name one, or leave it out for all")
    if part.curve_preferences:
        context.set_ecdh_curve(CURVES[part.curve_preferences[0]])


def _error_words(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
