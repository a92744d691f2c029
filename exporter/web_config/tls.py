"""A TLS context of the file's words. What cannot be done as written is refused, never weakened or strengthened."""

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
    """Why there can be no such context: the key that is to blame, and a sentence."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def tls_files(part: TlsPart, folder: Path) -> tuple[Path, ...]:
    """The files that the context is made of; relative names start at the configuration's folder."""
    return tuple(folder / name for name in (part.cert_file, part.key_file, part.client_ca_file) if name)


def create_context(part: TlsPart, folder: Path) -> ssl.SSLContext:
    """The context for new connections. Raises TlsProblem."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_alpn_protocols(["http/1.1"])
    _load_certificate(made, part, folder)
    _configure_client_auth(made, part, folder)
    _choose_versions(made, part)
    _choose_ciphers(made, part)
    _choose_curve(made, part)
    return made


def _load_certificate(made: ssl.SSLContext, part: TlsPart, folder: Path) -> None:
    if not (part.cert_file or part.cert):
        raise TlsProblem("cert_file", "is missing; TLS needs cert_file and key_file (or cert and key)")
    if not (part.key_file or part.key):
        raise TlsProblem("key_file", "is missing; TLS needs cert_file and key_file (or cert and key)")
    with _as_file(part.cert_file, part.cert, folder) as cert, _as_file(part.key_file, part.key, folder) as key:
        for name, path in (("cert_file", cert), ("key_file", key)):
            if not os.access(path, os.R_OK):
                raise TlsProblem(name, f"{path} cannot be read; check the path and its permissions")
        try:
            made.load_cert_chain(cert, key, password=_reject_passphrase)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise TlsProblem("cert_file", f"certificate and key cannot be used: {_error_words(error)}") from error


def _reject_passphrase() -> str:
    """Without this OpenSSL would ask at the terminal."""
    raise ValueError("the key has a passphrase; write it without one, in a file that only the agent may read")


@contextmanager
def _as_file(name: str, text: str, folder: Path) -> Iterator[Path]:
    """A file with this content: the named one, or for an inline text one in a private folder that is gone at once."""
    if name:
        yield folder / name
        return
    with tempfile.TemporaryDirectory(prefix="queuekeeper-tls-") as private:
        place = Path(private) / "inline.pem"
        place.touch(0o600)
        place.write_text(text)
        yield place


def _configure_client_auth(made: ssl.SSLContext, part: TlsPart, folder: Path) -> None:
    given = part.client_ca_file or part.client_ca
    if given and part.client_auth_type == "none":
        raise TlsProblem(
            "client_auth_type", "client CAs are given but nobody is asked; write RequireAndVerifyClientCert"
        )
    if part.client_allowed_sans is not None and part.client_auth_type != "required":
        raise TlsProblem("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
    made.verify_mode = _VERIFY_MODES[part.client_auth_type]
    if part.client_auth_type == "none":
        return
    if not given:
        made.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    with _as_file(part.client_ca_file, part.client_ca, folder) as place:
        try:
            made.load_verify_locations(place)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise TlsProblem(
                "client_ca_file", f"{part.client_ca_file} cannot be used: {_error_words(error)}"
            ) from error


def _choose_versions(made: ssl.SSLContext, part: TlsPart) -> None:
    low, high = VERSIONS[part.min_version], VERSIONS[part.max_version]
    if low > high:
        raise TlsProblem("min_version", f"{part.min_version} is above max_version {part.max_version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the operator asked for an old version by its name
        made.minimum_version, made.maximum_version = low, high


def _choose_ciphers(made: ssl.SSLContext, part: TlsPart) -> None:
    names = [SUITES[name] for name in part.cipher_suites if SUITES[name]]
    if part.cipher_suites and not names:
        made.minimum_version = ssl.TLSVersion.TLSv1_3  # only suites of TLS 1.3 were named: nothing is left below
        if made.maximum_version < ssl.TLSVersion.TLSv1_3:
            raise TlsProblem("cipher_suites", f"none of these can be used up to {part.max_version}")
        return
    # OpenSSL has no suite for TLS 1.0 and 1.1 at its usual security level; who names them means them.
    level = ":@SECLEVEL=0" if VERSIONS[part.min_version] < ssl.TLSVersion.TLSv1_2 else ""
    if names or level:
        made.set_ciphers(":".join(names or ["DEFAULT"]) + level)
    if part.prefer_server_cipher_suites:
        made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        made.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _choose_curve(made: ssl.SSLContext, part: TlsPart) -> None:
    if len(part.curve_preferences) > 1:
        raise TlsProblem("curve_preferences", "only one curve can be chosen here; name one, or leave it out for all")
    if part.curve_preferences:
        made.set_ecdh_curve(CURVES[part.curve_preferences[0]])


def _error_words(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
