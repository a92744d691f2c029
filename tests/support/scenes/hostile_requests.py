"""Requests that must not start an action, byte for byte and by name. `{...}` never stands for a real secret.

A request here with the right token names no watched database, or is malformed; a request that names a database in need of an
action has no right token.
"""

import base64
import copy
import gzip
import json
import random
import zlib
from typing import Any

from tests.support.scenes.webhook_site import TOKEN, alert, delivery

PATH = "/api/v1/alerts"
PASSWORD = "a-password-that-must-not-be-in-a-log"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


def request(
    body: bytes | dict[str, Any] | None = None,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    *,
    method: str = "POST",
    path: str = PATH,
    length: str | None = "",
    token: bool = True,
    host: str = "127.0.0.1",
) -> bytes:
    """One HTTP/1.1 request. `length`: the Content-Length ("": the right one, None: none); by default with the right token."""
    content = body if isinstance(body, bytes) else json.dumps(delivery() if body is None else body).encode()
    given = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    given = [*(RIGHT.items() if token else ()), *given, ("Host", host), ("Connection", "close")]
    if length is not None:
        given.append(("Content-Length", length or str(len(content))))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def unwatched(**changes: Any) -> dict[str, Any]:
    """Return a delivery about a database that is not watched."""
    return delivery(alert(labels={"database": "payroll"}), **changes)


def labelled(**labels: Any) -> dict[str, Any]:
    """Return a delivery with these labels, none of which names a watched database."""
    return delivery(alert(labels={"database": "", **labels}))


def with_alert(**changes: Any) -> dict[str, Any]:
    """Return a delivery with one changed alert; a change to None sets None, it does not remove the key."""
    return delivery({**alert(labels={"database": "payroll"}), **changes})


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in unwatched().items() if key != name}


def raw(text: str) -> bytes:
    return request(text.encode("utf-8", "surrogatepass"))


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


_BOMB = gzip.compress(b" " * 50_000_000)
_DEEP = "[" * 100_000 + "]" * 100_000
_LABEL = '{"version":"4","alerts":[{"status":"firing","fingerprint":"1","labels":{%s}}]}'
_ALERTS = json.dumps(unwatched())

# None of these clients may act; each request names a database that could be acted on.
UNKNOWN_SENDERS = {
    "no token": request(token=False),
    "an empty authorization": request(headers={"Authorization": ""}, token=False),
    "a wrong token": request(headers={"Authorization": "Bearer wrong"}, token=False),
    "half a token": request(headers={"Authorization": f"Bearer {TOKEN[:20]}"}, token=False),
    "a token and more": request(headers={"Authorization": f"Bearer {TOKEN}x"}, token=False),
    "a token in other case": request(headers={"Authorization": f"Bearer {TOKEN.upper()}"}, token=False),
    "a token twice": request(headers={"Authorization": f"Bearer {TOKEN} {TOKEN}"}, token=False),
    "a token after a comma": request(headers={"Authorization": f"Bearer wrong, Bearer {TOKEN}"}, token=False),
    "two authorizations, the first right": request(headers=[("Authorization", "Bearer wrong")]),
    "two authorizations, the second right": request(
        headers=[("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {TOKEN}")], token=False
    ),
    "the token as basic password": request(headers=basic("alertmanager", TOKEN), token=False),
    "the token as basic user": request(headers=basic(TOKEN, ""), token=False),
    "a basic password": request(headers=basic("root", PASSWORD), token=False),
    "basic without a colon": request(headers={"Authorization": "Basic bm9jb2xvbg=="}, token=False),
    "basic that is no base64": request(headers={"Authorization": "Basic %%%"}, token=False),
    "digest": request(headers={"Authorization": 'Digest username="a", response="b"'}, token=False),
    "the token in a cookie": request(headers={"Cookie": f"token={TOKEN}"}, token=False),
    "the token in the address": request(path=f"{PATH}?token={TOKEN}&access_token={TOKEN}", token=False),
    "the token in the body": request(delivery(token=TOKEN, authorization=f"Bearer {TOKEN}"), token=False),
    "the token in another header": request(headers={"X-Api-Key": TOKEN}, token=False),
    "a forwarded address of a proxy": request(
        headers={"X-Forwarded-User": "root", "X-Forwarded-For": "127.0.0.1", "X-Remote-User": "root"}, token=False
    ),
    "a token of 60,000 letters": request(headers={"Authorization": "Bearer " + "a" * 60_000}, token=False),
    "a token with umlauts": request(headers={"Authorization": "Bearer \xfc\xff"}, token=False),
    "another method by header": request(headers={"X-HTTP-Method-Override": "POST"}, method="GET"),
    "a PUT": request(method="PUT"),
    "a DELETE": request(method="DELETE"),
    "a PATCH": request(method="PATCH"),
    "a HEAD": request(b"", method="HEAD"),
    "an OPTIONS": request(method="OPTIONS"),
    "a made-up method": request(method="FIRE"),
    "another path": request(path="/api/v1/alert"),
    "a path that goes up": request(path="/api/v1/../v1/../../etc/passwd"),
    "a path in escapes": request(path="/api/v1/%2e%2e/%2e%2e/etc/passwd"),
    "a path with a null": request(path="/api/v1/alerts%00"),
    "pause without a token": request(b"", path="/api/v1/pause", token=False),
    "resume without a token": request(b"", path="/api/v1/resume", token=False),
    "reload without a token": request(b"", path="/-/reload", token=False),
}
# With the right token, and understood as a delivery: no alert of it means us.
MEANT_FOR_OTHERS = {
    "an unknown database": request(unwatched()),
    "no database": request(delivery(alert(labels={"database": ""}))),
    "a path for a database": request(labelled(database="../../../etc/passwd")),
    "SQL for a database": request(labelled(database="jobs'; DROP TABLE run; --")),
    "a shell for a database": request(labelled(database="jobs; touch /tmp/qk; $(id) `id`")),
    "a template for a database": request(labelled(database="{{ 7 * 7 }}${jndi:ldap://x}")),
    "a database in other case": request(labelled(database="JOBS")),
    "a database with a space": request(labelled(database="jobs ")),
    "a database with a null": request(labelled(database="jobs\0")),
    "a database that looks alike": request(labelled(database="j\u043ebs")),
    "another host's instance": request(delivery(alert(labels={"instance": "b:9977"}))),
    "no instance": request(delivery(alert(labels={"instance": ""}))),
    "an instance that begins like ours": request(delivery(alert(labels={"instance": "a:9977.evil"}))),
    "an instance as a pattern": request(delivery(alert(labels={"instance": ".*"}))),
    "an alert no rule knows": request(delivery(alert(labels={"alertname": "Other"}))),
    "an alert name with a line break": request(delivery(alert(labels={"alertname": "QueueStaleLeases\n"}))),
    "an action in the labels": request(labelled(action="purge", do="vacuum", remediation="restore", limit="1")),
    "10,000 alerts": request(delivery(*[{"status": "firing", "labels": {}, "fingerprint": "1"}] * 10_000)),
    "no alerts at all": request(delivery(alerts=[])),
    "resolved of nothing": request(delivery(alert("resolved"), alert("resolved", fingerprint="x' OR 1=1 --"))),
    "a label of 400,000 letters": request(labelled(huge="x" * 400_000)),
    "20,000 labels": request(labelled(**{f"l{number}": "v" for number in range(20_000)})),
    "a fingerprint of zeros": request(with_alert(fingerprint="\0" * 16)),
    "a label that is a lone surrogate": raw(_LABEL % r'"database":"\ud800"'),
    "a label name that is a lone surrogate": raw(_LABEL % r'"\udfff":"x"'),
    "a prototype for a label": raw(_LABEL % '"__proto__":"x","constructor":"y"'),
    "unknown fields": request(unwatched(routeLabels={"a": 1}, nested={"a": [{"b": None}]}, version2=[1])),
    "times that are none": request(with_alert(startsAt="never", endsAt="\0")),
    "another host in the request": request(unwatched(), host="evil.example"),
}
# With the right token, and not understood, or too much.
NOT_UNDERSTOOD = {
    "nothing": request(b""),
    "a brace": request(b"{"),
    "null": request(b"null"),
    "a number": request(b"4"),
    "a text": request(b'"4"'),
    "a list": request([_ALERTS].__repr__().encode()),
    "a list of deliveries": request(f"[{_ALERTS}]".encode()),
    "two deliveries": request(f"{_ALERTS}{_ALERTS}".encode()),
    "a form": request(b"version=4&alerts=[]", {"Content-Type": "application/x-www-form-urlencoded"}),
    "XML": request(b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
    "YAML": request(b"!!python/object/apply:os.system ['id']"),
    "bad UTF-8": request(_ALERTS.encode().replace(b"payroll", b"pay\xff\xfe")),
    "UTF-16": request(_ALERTS.encode("utf-16")),
    "a byte order mark": request(b"\xef\xbb\xbf" + _ALERTS.encode()),
    "overlong UTF-8": request(_ALERTS.encode().replace(b"payroll", b"\xc0\xaf")),
    "a surrogate as bytes": request(_ALERTS.encode().replace(b"payroll", b"\xed\xa0\x80")),
    "a key twice": raw('{"version":"4","version":"4","alerts":[]}'),
    "a label twice": raw(_LABEL % '"database":"payroll","database":"jobs"'),
    "deep lists": raw(_DEEP),
    "deep objects": raw('{"a":' * 50_000 + "1" + "}" * 50_000),
    "deep in an unknown field": raw(_ALERTS[:-1] + ', "x": ' + "[" * 40 + "]" * 40 + "}"),
    "never closed": raw("[" * 300_000),
    "not a number": raw('{"version":"4","alerts":[],"x":NaN}'),
    "infinity": raw('{"version":"4","alerts":[],"x":-Infinity}'),
    "a number of 10,000 digits": raw('{"version":"4","alerts":[],"x":' + "9" * 10_000 + "}"),
    "version 3": request(unwatched(version="3")),
    "version 4 as a number": request(unwatched(version=4)),
    "version 1 that is not Grafana's": request(unwatched(version="1")),
    "Grafana's version with an organisation that is a text": request(unwatched(version="1", orgId="1")),
    "a version with a lone surrogate": raw(r'{"version":"\ud800","alerts":[]}'),
    "no version": request(without("version")),
    "no alerts": request(without("alerts")),
    "alerts that are an object": request(unwatched(alerts={})),
    "alerts that are a text": request(unwatched(alerts="all")),
    "alerts that are null": request(unwatched(alerts=None)),
    "an alert that is a text": request(unwatched(alerts=["firing"])),
    "an alert without labels": request(unwatched(alerts=[{"status": "firing", "fingerprint": "1"}])),
    "labels that are a list": request(with_alert(labels=["database", "jobs"])),
    "labels that are null": request(with_alert(labels=None)),
    "a label that is a number": request(with_alert(labels={"database": 1})),
    "a label that is an object": request(with_alert(labels={"database": {"$ne": ""}})),
    "a label that is true": request(with_alert(labels={"database": True})),
    "an unknown status": request(with_alert(status="suppressed")),
    "a status in capitals": request(with_alert(status="FIRING")),
    "a status that is a list": request(with_alert(status=["firing"])),
    "a fingerprint that is a number": request(with_alert(fingerprint=1)),
    "a fingerprint of 201 letters": request(with_alert(fingerprint="f" * 201)),
    "a fingerprint that is a lone surrogate": raw(_LABEL.replace('"1"', r'"\ud800"') % '"a":"b"'),
    "a start that is a number": request(with_alert(startsAt=1)),
    "a receiver that is a list": request(unwatched(receiver=["queuekeeper"])),
    "a receiver of 1,001 letters": request(unwatched(receiver="r" * 1001)),
    "fewer than none left out": request(unwatched(truncatedAlerts=-1)),
    "a text left out": request(unwatched(truncatedAlerts="1")),
    "10,001 alerts": request(delivery(*[{"status": "firing", "labels": {}, "fingerprint": "1"}] * 10_001)),
    "a mebibyte and a byte": request(_ALERTS.encode() + b" " * (1024 * 1024 + 1 - len(_ALERTS))),
    "a compressed bomb": request(_BOMB, {"Content-Encoding": "gzip"}),
    "a compressed bomb of another kind": request(zlib.compress(b"{" * 9_000_000), {"Content-Encoding": "deflate"}),
    "a compressed delivery": request(gzip.compress(_ALERTS.encode()), {"Content-Encoding": "gzip"}),
    "parts of a form": request(
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="../../x"\r\n\r\n{}\r\n--x--\r\n',
        {"Content-Type": "multipart/form-data; boundary=x"},
    ),
}
# What is hardly HTTP.
BROKEN = {
    "a length that is a text": request(unwatched(), length="many"),
    "a negative length": request(unwatched(), length="-1"),
    "a length of two numbers": request(unwatched(), length="5, 6"),
    "a length of 2 to the 70": request(unwatched(), length=str(2**70)),
    "a length that is too short": request(unwatched(), length="10"),
    "neither length nor chunks": request(unwatched(), length=None),
    "length and chunks": request(b"0\r\n\r\n", {"Transfer-Encoding": "chunked"}, length="5"),
    "a chunk of no size": request(b"zz\r\n{}\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}, length=None),
    "a chunk of a negative size": request(b"-5\r\n{}\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}, length=None),
    "an unknown encoding": request(unwatched(), {"Transfer-Encoding": "xchunked"}, length=None),
    "a header with a null": request(unwatched(), {"X-A": "a\0b"}),
    "a header without a colon": request(unwatched()).replace(b"Host:", b"Host", 1),
    "a header on two lines": request(unwatched(), {"X-A": "a\r\n b"}),
    "a header that adds another": request(unwatched(), {"X-A": "a\nX-B: b"}),
    "300 headers": request(unwatched(), {f"X-{number}": "v" for number in range(300)}),
    "a header of 200,000 letters": request(unwatched(), {"X-A": "a" * 200_000}),
    "an address of 200,000 letters": request(unwatched(), path=PATH + "?" + "a" * 200_000),
    "no host": request(unwatched()).replace(b"Host: 127.0.0.1\r\n", b"", 1),
    "two hosts": request(unwatched(), {"Host": "a"}),
    "HTTP/0.9": b"GET /api/v1/alerts\r\n",
    "HTTP/1.0": request(unwatched()).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "HTTP/3.7": request(unwatched()).replace(b"HTTP/1.1", b"HTTP/3.7", 1),
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 64,
    "an upgrade to WebSocket": request(unwatched(), {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}),
    "a TLS greeting": bytes.fromhex("16030100a5010000a10303") + b"\x11" * 160,
    "noise": random.Random(7).randbytes(4096),
    "only line breaks": b"\r\n" * 500,
    "nothing at all": b"",
    "a smuggled request": request(b"0\r\n\r\n" + request(), {"Transfer-Encoding": "chunked"}, length=None, token=False),
}


def fuzzed(rng: random.Random) -> bytes:
    """Return a randomly damaged delivery with the right token. Its instance is never this agent, so it must not act."""
    body: Any = delivery(*(alert(labels={"instance": "not ours"}) for _ in range(rng.randrange(1, 4))))
    for _ in range(rng.randrange(1, 6)):
        _harm(body, rng)
    text = json.dumps(body).encode()
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        place = rng.randrange(len(text))
        text = text[:place] + rng.randbytes(rng.randrange(3)) + text[place + rng.randrange(4) :]
    return text.replace(b"a:9977", b"b:9977")


_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**70, 1.5, "", "4", "firing", "jobs", "\0", "\u202e", "x" * 5000, [], {}, [[]], {"a": {"b": []}},
    "'; DROP TABLE run; --", "../../etc/passwd", ["firing"], {"$gt": ""},
)  # fmt: skip


def _harm(body: Any, rng: random.Random) -> None:
    """Change, remove or add a value at a random place."""
    place = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.75:
            place = place[key]
            continue
        if rng.random() < 0.3 and isinstance(place, dict):
            del place[key]
        elif rng.random() < 0.3 and isinstance(place, dict):
            place[f"{key}{rng.randrange(10)}"] = copy.deepcopy(rng.choice(_VALUES))
        else:
            place[key] = copy.deepcopy(rng.choice(_VALUES))
        return
