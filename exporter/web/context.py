"""What the web server needs of the agent, as values and callables, so that neither depends on how the other works."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from actions.policy.alerts import Delivery
from exporter.exposition.page import MetricsPage
from exporter.status.operations import Operations
from exporter.triggers.alerts import DeliveryReceipt
from exporter.web.address import Mount
from exporter.web_config.settings import WebConfig


@dataclass(frozen=True, slots=True)
class ActingRights:
    """Who may act now: the SHA-256 digests of the valid tokens, and the names of users and of client certificates.

    `token_names`: by digest, what the history calls its bearer.
    """

    enabled: bool
    token_digests: tuple[bytes, ...] = ()
    users: frozenset[str] = frozenset()
    client_sans: frozenset[str] = frozenset()
    token_names: Mapping[bytes, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class WebContext:
    """The agent as the web server sees it. All callables may be called from any thread.

    `not_ready()` returns the reason, "" when the agent is ready. `receive_delivery` stores a delivery or raises
    StoreUnavailable. `count_answer(code)` counts an answer to Alertmanager. `reload()` returns the reasons why the
    configuration was rejected, none when it was accepted. `web` returns the web configuration as of now.
    """

    version: str
    render: Callable[[str, str, Sequence[str]], MetricsPage]
    not_ready: Callable[[], str]
    acting_rights: Callable[[], ActingRights]
    receive_delivery: Callable[[Delivery], DeliveryReceipt]
    count_answer: Callable[[int], None]
    reload: Callable[[], tuple[str, ...]]
    operations: Operations
    web: Callable[[], WebConfig] = WebConfig
    mount: Mount = field(default_factory=Mount)
