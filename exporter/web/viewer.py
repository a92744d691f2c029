"""The viewer of a page, and the key that its forms carry."""

from starlette.requests import Request

from exporter.page.render import Viewer
from exporter.web.authorization import actor_name, identity_denial
from exporter.web.context import WebContext
from exporter.web.identity import identity_of
from exporter.web.sessions import SessionStore


def viewer_of(request: Request, context: WebContext, sessions: SessionStore) -> Viewer:
    """Return the viewer of a request, from the identity that the middleware stored."""
    identity, right = identity_of(request), context.acting_rights()
    denial = identity_denial(identity, right)
    return Viewer(
        may_act=actor_name(identity, right),
        why_not="" if denial is None else _reason_sentence(denial.reason),
        can_log_in=right.enabled and bool(right.token_digests or (right.users and context.web().users)),
        logged_in=bool(identity.session),
        form_key=sessions.form_key(*_form_owner(request)),
    )


def is_own_form(request: Request, sessions: SessionStore, offered: str) -> bool:
    """Return whether the key belongs to a form that was rendered for this viewer."""
    return sessions.is_valid_form_key(offered, *_form_owner(request))


def _form_owner(request: Request) -> tuple[str, ...]:
    """Return what a form key is bound to: it is invalid in another session and for another user."""
    identity = identity_of(request)
    return identity.session, identity.user, *identity.names


def _reason_sentence(reason: str) -> str:
    return "You may read but not act." if reason == "no bearer token given" else f"{reason[:1].upper()}{reason[1:]}."
