"""What a registry exchange is made of: requests, answers, and the events that say what to do next.

Source: distribution-spec "Error Codes"; RFC 9110 section 10.2.3 (Retry-After)
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.spec import jsontext
from rootless.spec.digest import Digest
from rootless.spec.record import record

Headers = tuple[tuple[str, str], ...]


@record
class Base:
    """One way to speak to a registry: http or https, with its certificate checked or not."""

    scheme: str
    verify: bool = True


@record
class Request:
    """What the driver sends; `limit_bytes` bounds the body that it may collect, None streams a good one."""

    method: str
    url: str
    headers: Headers
    body: bytes = b""
    verify: bool = True
    limit_bytes: int | None = None


@record
class Response:
    """An answer; names of headers are lower case; the body of a streamed one is left empty."""

    status: int
    headers: Headers = ()
    body: bytes = b""

    def get(self, name: str) -> str:
        """Return the first header *name*, "" when it is absent."""
        return next((value for key, value in self.headers if key == name), "")


@record
class TransportFailure:
    """There was no answer. kind: "refused", "name", "tls", "timeout" or "broken" (which is worth a retry)."""

    kind: str
    text: str


@record
class Again:
    """Ask next_request() for what follows; *why* is for the log."""

    why: str


@record
class Retry:
    """Wait *delay_ms*, then ask next_request()."""

    delay_ms: int
    why: str


@record
class NeedCredentials:
    """Look for the credentials of *domain*, give them to set_credentials() and go on."""

    domain: str


@record
class Document:
    """A manifest, index or config, complete and verified."""

    body: bytes
    content_type: str
    digest: Digest


@record
class Stream:
    """The body of a blob follows; its first *skip_bytes* were delivered before."""

    skip_bytes: int


@record
class Done:
    """All bytes of the blob passed."""


@record
class Failed:
    """The exchange is over."""

    error: RootlessError


Event = Again | Retry | NeedCredentials | Document | Stream | Done | Failed


_CODES = {
    "MANIFEST_UNKNOWN": "manifest unknown",
    "NAME_UNKNOWN": "no such repository in the registry",
    "NAME_INVALID": "the registry does not accept this name",
    "BLOB_UNKNOWN": "blob unknown to the registry",
    "UNAUTHORIZED": "authentication required",
    "DENIED": "access denied",
    "TOOMANYREQUESTS": "too many requests",
    "UNSUPPORTED": "the registry does not support this",
}
_STATUS = {
    400: "bad request",
    401: "authentication required",
    403: "access denied",
    404: "not found",
    429: "too many requests",
    500: "internal error of the registry",
    502: "bad gateway",
    503: "service unavailable",
    504: "gateway timeout",
}


def words_of(response: Response) -> str:
    """Say what an answer means, by the registry's error code where it sent one."""
    status = _STATUS.get(response.status, "unexpected answer")
    try:
        first = jsontext.loads(response.body)["errors"][0]
        code, message = str(first["code"]), first.get("message")
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{status} (HTTP {response.status})"
    text = _CODES.get(code)
    if text is None:
        shown = message if isinstance(message, str) and message and message.isprintable() else code
        text = shown[:200]
    return f"{text} (HTTP {response.status})"


def retry_after_ms(response: Response) -> int | None:
    """Return what Retry-After asks for; a date counts from the answer's own Date, so no clock is needed."""
    value = response.get("retry-after").strip()
    if not value:
        return None
    if value.isdigit():
        return int(value) * 1000
    from email.utils import parsedate_to_datetime  # takes longer to load than a layer to arrive

    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(response.get("date"))
        return max(0, int((until - now).total_seconds() * 1000))
    except (ValueError, TypeError):
        return None
