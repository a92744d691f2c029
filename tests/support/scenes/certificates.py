"""Certificates made by the openssl command: an authority, a server, clients, and whatever a test wants to go wrong."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.patience import LONGEST_WAIT


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs what a test needs; everything lies in one folder."""

    folder: Path
    own: Pair

    def signed(self, name: str, sans: str = "DNS:localhost,IP:127.0.0.1", *, serial: int = 1) -> Pair:
        """A certificate for both ends, of this name, with these subject alternative names."""
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={sans}\nextendedKeyUsage=serverAuth,clientAuth\n")
        _openssl("req", "-new", *_KEY, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        by = ("-CA", self.own.cert, "-CAkey", self.own.key, "-set_serial", str(serial))
        _openssl("x509", "-req", "-in", request, *by, "-days", "30", "-extfile", extensions, "-out", pair.cert)
        return pair


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def authority(folder: Path, name: str = "authority") -> Authority:
    """A new one."""
    own = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl("req", "-x509", *_KEY, "-keyout", own.key, "-out", own.cert, "-subj", f"/CN={name}", "-days", "30")
    return Authority(folder, own)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=LONGEST_WAIT)
