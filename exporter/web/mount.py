"""Where we are found: below which path, and by which names."""

from dataclasses import dataclass
from urllib.parse import urlsplit


class BadMount(Exception):
    """What cannot be a path or an address; the message is one line with the next step."""


@dataclass(frozen=True, slots=True)
class Mount:
    """`prefix` begins every path ("" for none); `own_hosts`: names that mean us beside the usual, HOST or HOST:PORT.

    `secure`: visitors reach us by https, whatever we speak ourselves.
    """

    telemetry_path: str = "/metrics"
    prefix: str = ""
    own_hosts: frozenset[str] = frozenset()
    secure: bool = False

    @property
    def open_paths(self) -> frozenset[str]:
        """What scrapers and probes ask for, by whatever name they know us."""
        return frozenset({self.telemetry_path, "/-/healthy", "/-/ready"})


def parse_mount(telemetry_path: str, route_prefix: str | None, external_url: str | None) -> Mount:
    """Of the command line's words; without a route prefix the external URL's path is it. Raises BadMount."""
    place = urlsplit(external_url or "")
    if external_url and (place.scheme not in ("http", "https") or not place.netloc or place.query or place.fragment):
        raise BadMount(f"--web.external-url={external_url} is not an address; write http://HOST/PATH")
    prefix = _parse_path("--web.route-prefix", place.path if route_prefix is None else route_prefix)
    own = frozenset({place.netloc.rpartition("@")[2].lower()}) if external_url else frozenset[str]()
    return Mount(_parse_path("--web.telemetry-path", telemetry_path) or "/", prefix, own, place.scheme == "https")


def _parse_path(option: str, text: str) -> str:
    """With one slash before and none after; empty for the root."""
    path = "/" + text.strip("/")
    if any(letter in path for letter in "{}?#%\\") or "//" in path or not path.isprintable() or " " in path:
        raise BadMount(f"{option}={text} is not a path; write it plainly, like /queues")
    return "" if path == "/" else path
