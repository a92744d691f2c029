"""Who looks at a page, and the key that its forms carry."""

from starlette.requests import Request

from exporter.page.render import Visitor
from exporter.web.authorization import actor, refused
from exporter.web.context import Front
from exporter.web.identity import identity_of
from exporter.web.sessions import Sessions


def visitor_of(request: Request, front: Front, sessions: Sessions) -> Visitor:
    """As the gate found them out."""
    identity, right = identity_of(request), front.act_right()
    no = refused(identity, right)
    return Visitor(
        may_act=actor(identity, right),
        why_not="" if no is None else _in_words(no.reason),
        can_log_in=right.enabled and bool(right.token_digests or (right.users and front.web().users)),
        logged_in=bool(identity.session),
        form_key=sessions.form_key(*_whose(request)),
    )


def is_own_form(request: Request, sessions: Sessions, offered: str) -> bool:
    """Whether the form is one that this visitor was shown."""
    return sessions.is_form_key(offered, *_whose(request))


def _whose(request: Request) -> tuple[str, ...]:
    """A session's forms are worth nothing in another one, nor another user's."""
    identity = identity_of(request)
    return identity.session, identity.user, *identity.names


def _in_words(reason: str) -> str:
    return "You may look, not act." if reason == "no bearer token given" else f"{reason[:1].upper()}{reason[1:]}."
