"""Who looks at a page, and the key that its forms carry."""

from starlette.requests import Request

from exporter.page.render import Viewer
from exporter.web.authorization import actor_name, identity_denial
from exporter.web.context import WebContext
from exporter.web.identity import identity_of
from exporter.web.sessions import SessionStore


def viewer_of(request: Request, front: WebContext, sessions: SessionStore) -> Viewer:
    """As the gate found them out."""
    identity, right = identity_of(request), front.act_right()
    no = identity_denial(identity, right)
    return Viewer(
        may_act=actor_name(identity, right),
        why_not="" if no is None else _reason_sentence(no.reason),
        can_log_in=right.enabled and bool(right.token_digests or (right.users and front.web().users)),
        logged_in=bool(identity.session),
        form_key=sessions.form_key(*_form_owner(request)),
    )


def is_own_form(request: Request, sessions: SessionStore, offered: str) -> bool:
    """Whether the form is one that this visitor was shown."""
    return sessions.is_form_key(offered, *_form_owner(request))


def _form_owner(request: Request) -> tuple[str, ...]:
    """A session's forms are worth nothing in another one, nor another user's."""
    identity = identity_of(request)
    return identity.session, identity.user, *identity.names


def _reason_sentence(reason: str) -> str:
    return "You may look, not act." if reason == "no bearer token given" else f"{reason[:1].upper()}{reason[1:]}."
