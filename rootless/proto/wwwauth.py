"""WWW-Authenticate: parse the challenges of a registry and decide how to answer them.

Source: RFC 9110 section 11.6.1; distribution-spec "Token Authentication", OAuth2 variant for identity tokens
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from rootless.spec.record import record

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TOKEN68 = _TOKEN | frozenset("/=")
CLIENT_ID = "rootless"


@record
class Challenge:
    """One way in that a server offers; scheme and parameter names are lower case."""

    scheme: str
    params: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """Return the parameter *name*, "" when it is absent."""
        return next((value for key, value in self.params if key == name), "")


@record
class Credentials:
    """What a person proved to be; an identity token takes the place of the password."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def basic(self) -> str:
        """Return the value of an Authorization header (RFC 7617)."""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, ...)"


@record
class TokenRequest:
    """A request to the token server that a Bearer challenge names."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


class _Scanner:
    """A cursor over one header value."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def skip(self, characters: str) -> None:
        while self.at < len(self.text) and self.text[self.at] in characters:
            self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, allowed: frozenset[str]) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in allowed:
            self.at += 1
        return self.text[start : self.at]

    def value(self) -> str:
        """Return a token or a quoted string with its escapes resolved; an unclosed quote ends with the text."""
        if self.peek() != '"':
            return self.take(frozenset(chr(c) for c in range(33, 127)) - {",", '"'})
        self.at += 1
        out: list[str] = []
        while (here := self.peek()) and here != '"':
            if here == "\\" and self.at + 1 < len(self.text):
                self.at += 1
                here = self.peek()
            out.append(here)
            self.at += 1
        self.at += 1
        return "".join(out)


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges of all WWW-Authenticate headers, in order; what cannot be read is skipped."""
    found: list[Challenge] = []
    for value in values:
        found.extend(_parse(value))
    return tuple(found)


def _parse(text: str) -> list[Challenge]:
    scan = _Scanner(text)
    found: list[tuple[str, list[tuple[str, str]]]] = []
    while True:
        scan.skip(" \t,")
        if not scan.peek():
            return [Challenge(scheme, tuple(params)) for scheme, params in found]
        word = scan.take(_TOKEN)
        if not word:
            scan.at += 1  # not a character that can begin anything: go on behind it
            continue
        after = scan.at
        scan.skip(" \t")
        if scan.peek() == "=" and found:
            # A parameter of the last challenge; "=" cannot follow a scheme.
            scan.skip("=")
            scan.skip(" \t")
            found[-1][1].append((word.lower(), scan.value()))
            continue
        found.append((word.lower(), []))
        if scan.at > after:
            _skip_token68(scan)


def _skip_token68(scan: _Scanner) -> None:
    """Step over `Negotiate abc==`: a blob in the place of parameters."""
    start = scan.at
    scan.take(_TOKEN68)
    scan.skip(" \t")
    blob = scan.text[start : scan.at].rstrip()
    if scan.peek() not in ("", ",") or "=" in blob.rstrip("=") or not blob.endswith("="):
        scan.at = start  # parameters, or the next scheme


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the challenge to answer: Bearer before Basic, None when there is neither."""
    known = {c.scheme: c for c in reversed(tuple(challenges))}
    bearer = known.get("bearer")
    if bearer is not None and bearer.get("realm"):
        return bearer
    return known.get("basic")


def token_request(challenge: Challenge, scope: str, credentials: Credentials | None) -> TokenRequest:
    """Return the request that turns *credentials*, or nobody's, into a token for *scope*.

    Raises: ValueError when the challenge's realm is not an address
    """
    realm = challenge.get("realm")
    try:
        parts = urlsplit(realm)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"{realm!r} is not the address of a token server") from None
    if not valid:
        raise ValueError(f"{realm!r} is not the address of a token server")
    service = challenge.get("service")
    scopes = challenge.get("scope") or scope
    headers = [("Accept", "application/json")]
    if credentials is not None and credentials.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": CLIENT_ID,
            "scope": scopes,
            "refresh_token": credentials.identity_token,
        }
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        return TokenRequest("POST", realm, tuple(headers), urlencode(form).encode("ascii"))
    query = parse_qsl(parts.query, keep_blank_values=True)
    if service:
        query.append(("service", service))
    # One scope parameter for each: token servers differ on several in one.
    query += [("scope", one) for one in scopes.split(" ") if one]
    if credentials is not None:
        query.append(("account", credentials.username))
        headers.append(("Authorization", credentials.basic()))
    url = urlunsplit(parts._replace(query=urlencode(query, quote_via=quote, safe=":/,"), fragment=""))
    return TokenRequest("GET", url, tuple(headers))
