"""What the web server needs of the agent: values and callables, so that neither knows how the other works."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from actions.policy.alerts import Delivery
from actions.store.runs import Run
from exporter.exposition.page import MetricsPage
from exporter.status.operations import Operations
from exporter.triggers.alerts import DeliveryReceipt
from exporter.web.mount import Mount
from exporter.web_config.settings import WebConfig


@dataclass(frozen=True, slots=True)
class ActingRights:
    """Who may act now. `token_digests`: SHA-256 of each valid token; `users` and `client_sans`: names."""

    enabled: bool
    token_digests: tuple[bytes, ...] = ()
    users: frozenset[str] = frozenset()
    client_sans: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WebContext:
    """`not_ready()` is the reason, "" when ready. `receive` stores a delivery or raises StoreUnavailable.

    `answered(code)` hears of every answer to Alertmanager. `reload()` gives the reasons why not; `pause(why)` says since
    when and why actions are paused, both it and `resume` raise StoreUnavailable. `finishing()`: what is still on its way to
    a safe point a second after a pause. `cancel(run_id, who)` raises KeyError, Refused. Any thread may call all of them.
    """

    version: str
    render: Callable[[str, str, Sequence[str]], MetricsPage]
    not_ready: Callable[[], str]
    act_right: Callable[[], ActingRights]
    receive: Callable[[Delivery], DeliveryReceipt]
    answered: Callable[[int], None]
    reload: Callable[[], tuple[str, ...]]
    pause: Callable[[str], str]
    resume: Callable[[], None]
    finishing: Callable[[], Sequence[Run]]
    cancel: Callable[[int, str], Run]
    operations: Operations
    web: Callable[[], WebConfig] = WebConfig
    mount: Mount = field(default_factory=Mount)
