"""The client's side of the distribution protocol, without I/O.

A `RegistrySession` is what is known of one repository on one registry: which of http and https it
speaks, and the authorization that it accepted last. An `Exchange` fetches one object in it:

    driver                               exchange
      │  request = next_request()           │   GET, with authorization and Range as the state asks
      │ ──────────── send it ─────────────► │
      │  event = receive(response)          │   or failed(TransportFailure) when there was no answer
      │    Again            send the next request at once (redirect, token dance, other scheme)
      │    Retry            sleep delay_ms, then the same
      │    NeedCredentials  look them up, session.set_credentials(), then the same
      │    Document         the whole body, verified
      │    Stream           the body follows: skip, then progress(n) for each chunk, ended() at its end
      │    Done             all bytes of the blob have passed (the driver verifies the digest)
      │    Failed           the error to raise

Decisions are data: how long to wait, where to go on, whether to give up. Time and randomness stay
with the driver.

Challenges and addresses are taken apart by modules that are only loaded for an answer that has one: before the first
request nothing else takes as long as importing.

Source: distribution-spec v1.1; RFC 9110 (redirects 15.4, ranges 14, Retry-After 10.2.3)
"""

from __future__ import annotations

from rootless.errors import AuthRequired, DigestMismatch, ManifestNotFound, RegistryError
from rootless.proto.messages import (
    Again,
    Base,
    Document,
    Done,
    Event,
    Failed,
    NeedCredentials,
    Request,
    Response,
    Retry,
    Stream,
    TransportFailure,
    retry_after_ms,
    words_of,
)
from rootless.spec import jsontext, media
from rootless.spec.descriptor import Descriptor
from rootless.spec.digest import Digest, digest_of, parse_digest
from rootless.spec.manifest import MAX_MANIFEST_BYTES
from rootless.spec.record import record
from rootless.spec.reference import ImageReference, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from rootless.proto.wwwauth import Challenge, Credentials

MAX_REDIRECTS = 10
MAX_TOKEN_DANCES = 3
MAX_TOKEN_BYTES = 1 << 20
MAX_ERROR_BYTES = 64 << 10
MAX_FAILURES = 4  # in a row, without a byte in between
MAX_TOTAL_FAILURES = 24
FIRST_DELAY_MS = 250
MAX_RETRY_AFTER_MS = 60_000


def bases_for(domain: str, tls_verify: bool | None) -> tuple[Base, ...]:
    """Return how to speak to *domain*, in the order of trying.

    On loopback plain HTTP is tried first and certificates are not checked, as docker does it; elsewhere
    HTTPS alone, and `--tls-verify=false` allows an unchecked certificate and then plain HTTP.
    """
    if tls_verify is True:
        return (Base("https"),)
    if tls_verify is False:
        return (Base("https", False), Base("http", False))
    if is_loopback(domain):
        return (Base("http", False), Base("https", False))
    return (Base("https"),)


class RegistrySession:
    """One repository on one registry."""

    def __init__(self, reference: ImageReference, tls_verify: bool | None = None) -> None:
        self.reference = reference
        self.bases = bases_for(reference.domain, tls_verify)
        self.settled = False  # an answer has come over bases[0]
        self.credentials: Credentials | None = None
        self.credentials_known = False
        self.authorization = ""
        self.generation = 0  # counts changes of authorization
        self.proven = False  # the registry accepted it
        self.first_failure: TransportFailure | None = None

    @property
    def host(self) -> str:
        """Host and port of the registry's API."""
        return "registry-1.docker.io" if self.reference.domain == "docker.io" else self.reference.domain

    @property
    def scope(self) -> str:
        return f"repository:{self.reference.path}:pull"

    def set_credentials(self, credentials: Credentials | None) -> None:
        """Answer NeedCredentials; None says that there are none."""
        self.credentials, self.credentials_known = credentials, True

    def authorize(self, value: str) -> None:
        """Send *value* as Authorization from now on."""
        self.authorization, self.proven = value, False
        self.generation += 1

    def document(self, asked: Asked) -> Exchange:
        """Fetch what *asked* says."""
        if asked.descriptor is None:
            return self.manifest(asked.selector)
        return self.config(asked.descriptor) if asked.is_config else self.manifest_by(asked.descriptor)

    def manifest(self, selector: str) -> Exchange:
        """Fetch the manifest or index that *selector*, a tag or a digest, names."""
        digest = parse_digest(selector) if ":" in selector else None
        wanted = Wanted("manifest", f"manifest {selector} in {self.reference.name}", f"manifests/{selector}", digest)
        return Exchange(self, wanted)

    def manifest_by(self, descriptor: Descriptor) -> Exchange:
        """Fetch the manifest that an index names; its size is checked too."""
        what = f"manifest {descriptor.digest} in {self.reference.name}"
        wanted = Wanted("manifest", what, f"manifests/{descriptor.digest}", descriptor.digest, descriptor.size_bytes)
        return Exchange(self, wanted)

    def config(self, descriptor: Descriptor) -> Exchange:
        """Fetch a small blob whole."""
        what = f"config {descriptor.digest} of {self.reference.name}"
        wanted = Wanted("document", what, f"blobs/{descriptor.digest}", descriptor.digest, descriptor.size_bytes)
        return Exchange(self, wanted)

    def blob(self, descriptor: Descriptor) -> Exchange:
        """Fetch a layer as a stream."""
        what = f"layer {descriptor.digest} of {self.reference.name}"
        urls = descriptor.urls if media.is_foreign(descriptor.media_type) else ()
        wanted = Wanted("blob", what, f"blobs/{descriptor.digest}", descriptor.digest, descriptor.size_bytes, urls)
        return Exchange(self, wanted)


@record
class Asked:
    """A document that somebody needs: the manifest that *selector* names, or what *descriptor* does."""

    selector: str = ""
    descriptor: Descriptor | None = None
    is_config: bool = False


@record
class Wanted:
    """The object of an exchange: "manifest", "document" or "blob"."""

    kind: str
    what: str
    path: str
    digest: Digest | None = None
    size_bytes: int | None = None
    urls: tuple[str, ...] = ()


class _Budget:
    """How often an exchange may fail before it gives up."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.total = 0

    def spend(self) -> int | None:
        """Return how long to wait before the next attempt, in ms; None when it is over."""
        self.in_a_row += 1
        self.total += 1
        if self.in_a_row > MAX_FAILURES or self.total > MAX_TOTAL_FAILURES:
            return None
        delay_ms = FIRST_DELAY_MS << (self.in_a_row - 1)
        return delay_ms


class Exchange:
    """Fetches one object: see the drawing above for the order of calls."""

    def __init__(self, session: RegistrySession, wanted: Wanted) -> None:
        self.session = session
        self.wanted = wanted
        self.offset = 0
        self._location = ""  # where redirects led; "" is the registry itself
        self._hops = 0
        self._dances = 0
        self._foreign = 0  # how many of wanted.urls were tried
        self._challenge: Challenge | None = None
        self._asked_token = False
        self._sent_generation = 0
        self._budget = _Budget()

    # --- what to send

    def next_request(self) -> Request:
        """Return the request to send now."""
        if self._challenge is not None:
            request = self._answer_challenge(self._challenge)
            if request is not None:
                return request
        self._asked_token = False
        url = self._location or self._own_url()
        headers: list[tuple[str, str]] = []
        if self.wanted.kind == "manifest":
            headers += [("Accept", kind) for kind in media.ACCEPT_MANIFEST]
        headers.append(("Accept-Encoding", "identity"))
        if self.offset:
            headers.append(("Range", f"bytes={self.offset}-"))
        self._sent_generation = self.session.generation
        if self.session.authorization and self._same_origin(url):
            headers.append(("Authorization", self.session.authorization))
        return Request("GET", url, tuple(headers), verify=self.session.bases[0].verify, limit_bytes=self._limit())

    def _limit(self) -> int | None:
        if self.wanted.kind == "blob":
            return None
        return MAX_MANIFEST_BYTES if self.wanted.size_bytes is None else self.wanted.size_bytes

    def _own_url(self) -> str:
        session = self.session
        return f"{session.bases[0].scheme}://{session.host}/v2/{session.reference.path}/{self.wanted.path}"

    def _same_origin(self, url: str) -> bool:
        """Tell whether *url* is the registry itself: credentials never leave it."""
        return _origin(url) == _origin(self._own_url())

    def _answer_challenge(self, challenge: Challenge) -> Request | None:
        """Set a Basic authorization, or return the request for a token."""
        session = self.session
        if challenge.scheme == "basic":
            self._challenge = None
            if session.credentials is not None:
                session.authorize(session.credentials.basic())
            return None
        from rootless.proto.wwwauth import token_request

        self._asked_token = True
        ask = token_request(challenge, session.scope, session.credentials)
        return Request(ask.method, ask.url, ask.headers, ask.body, session.bases[0].verify, MAX_TOKEN_BYTES)

    # --- what came back

    def receive(self, response: Response) -> Event:
        """Take the answer to the last request. Only a Stream's body is read after this."""
        if self._asked_token:
            return self._token(response)
        session = self.session
        status = response.status
        if not session.settled and status == 400 and len(session.bases) > 1 and session.bases[0].scheme == "http":
            return self._next_base("the registry does not speak plain HTTP")
        session.settled = True
        if status in (301, 302, 303, 307, 308):
            return self._redirected(response)
        if status == 401 and not self._location:
            return self._unauthorized(response)
        at_home = not self._location
        if at_home and (status < 400 or status == 404):
            session.proven = True
        if status in (200, 206):
            return self._good(response)
        if status in (408, 425, 429, 500, 502, 503, 504) or (status in (401, 403) and not at_home and self._hops):
            return self._busy(response)
        return self._refused(response)

    def failed(self, failure: TransportFailure) -> Event:
        """Take a failure of the connection, before or after the answer began."""
        session = self.session
        if not session.settled:
            if session.first_failure is None or session.first_failure.kind == "refused":
                session.first_failure = failure
            if len(session.bases) > 1:
                return self._next_base(failure.text)
            failure = session.first_failure
            if failure.kind in ("refused", "name", "tls"):
                return Failed(self._unreachable(failure))
        elif failure.kind == "tls":
            return Failed(self._unreachable(failure))
        self._location, self._hops = "", 0  # a redirect is signed for a moment: start from the registry again
        delay_ms = self._budget.spend()
        if delay_ms is None:
            return Failed(self._unreachable(failure))
        return Retry(delay_ms, failure.text)

    def progress(self, count_bytes: int) -> Failed | None:
        """Count bytes of a streamed body that were new; Failed when there are more than promised."""
        self.offset += count_bytes
        self._budget.in_a_row = 0
        size = self.wanted.size_bytes
        if size is not None and self.offset > size:
            return Failed(self._mismatch(f"more than the {size} bytes that its manifest says"))
        return None

    def ended(self) -> Event:
        """Take the regular end of a streamed body."""
        if self.offset == self.wanted.size_bytes:
            return Done()
        return self.failed(TransportFailure("broken", f"the body ended after {self.offset} bytes"))

    # --- the cases

    def _next_base(self, why: str) -> Again:
        self.session.bases = self.session.bases[1:]
        return Again(why)

    def _redirected(self, response: Response) -> Event:
        target = response.get("location")
        here = self._location or self._own_url()
        self._hops += 1
        if not target or self._hops > MAX_REDIRECTS:
            why = "redirects without end" if target else "a redirect without a target"
            return Failed(RegistryError(f"reading {self.wanted.what}: {why}", status=response.status))
        url = _joined(here, target)
        parts = _split(url)
        if parts.scheme not in ("http", "https"):
            return Failed(RegistryError(f"reading {self.wanted.what}: redirect to {target!r}", status=response.status))
        if parts.scheme == "http" and _split(here).scheme == "https" and self.session.bases[0].verify:
            return Failed(
                RegistryError(
                    f"reading {self.wanted.what}: the registry redirects from https to plain http ({parts.netloc})",
                    status=response.status,
                    hint="--tls-verify=false allows it",
                )
            )
        self._location = url
        return Again(f"redirected to {parts.netloc}")

    def _unauthorized(self, response: Response) -> Event:
        session = self.session
        if self._sent_generation != session.generation:
            return Again("another request was authorized meanwhile")
        from rootless.proto.wwwauth import choose, parse_challenges, token_request

        challenge = choose(parse_challenges([v for k, v in response.headers if k == "www-authenticate"]))
        refused = bool(session.authorization) and not session.proven
        if challenge is None or refused or self._dances >= MAX_TOKEN_DANCES:
            return Failed(self._auth_required(response))
        if challenge.scheme == "basic" and session.credentials_known and session.credentials is None:
            return Failed(self._auth_required(response))
        if challenge.scheme == "bearer":
            try:
                realm = _split(token_request(challenge, session.scope, None).url)
            except ValueError as error:
                return Failed(self._auth_required(response, str(error)))
            if realm.scheme == "http" and session.bases[0].scheme == "https" and session.bases[0].verify:
                return Failed(self._auth_required(response, "its token server speaks plain http"))
        self._challenge = challenge
        self._dances += 1
        if not session.credentials_known:
            return NeedCredentials(session.reference.domain)
        return Again(f"{challenge.scheme} authorization")

    def after_credentials(self) -> Event:
        """Go on after set_credentials(): a Basic challenge without credentials is the end."""
        if self.session.credentials is None and self._challenge is not None and self._challenge.scheme == "basic":
            return Failed(self._auth_required(Response(401)))
        return Again("credentials are known")

    def _token(self, response: Response) -> Event:
        """Take the token server's answer."""
        host = _split(self._challenge.get("realm")).netloc if self._challenge is not None else ""
        if response.status in (408, 429, 500, 502, 503, 504):
            return self._busy(response)
        if response.status != 200:
            return Failed(self._auth_required(response, f"the token server {host} answered {response.status}"))
        try:
            value = jsontext.loads(response.body)
            token = value.get("token") or value.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token or not token.isprintable():
            return Failed(self._auth_required(response, f"the token server {host} sent no token"))
        self._challenge = None
        self.session.authorize(f"Bearer {token}")
        return Again("got a token")

    def _good(self, response: Response) -> Event:
        if self.wanted.kind == "blob":
            return self._stream(response)
        digest = self.wanted.digest
        got = digest_of(response.body, digest.algorithm if digest is not None else "sha256")
        if digest is not None and got != digest:
            return Failed(self._mismatch(f"a body with the digest {got}"))
        promised = response.get("docker-content-digest")
        if digest is None and promised.startswith("sha256:") and promised != str(got):
            return Failed(self._mismatch(f"a body with the digest {got}, and says that it is {promised}"))
        size = self.wanted.size_bytes
        if size is not None and len(response.body) != size:
            return Failed(self._mismatch(f"{len(response.body)} bytes instead of {size}"))
        return Document(response.body, media.bare(response.get("content-type")), got)

    def _stream(self, response: Response) -> Event:
        size = self.wanted.size_bytes or 0
        length = response.get("content-length")
        if response.status == 206:
            span, _, total = response.get("content-range").removeprefix("bytes ").partition("/")
            start = span.partition("-")[0]
            if start != str(self.offset) or total not in (str(size), "*"):
                return self.failed(TransportFailure("broken", f"a wrong range ({span}/{total}) came back"))
            return Stream(0)
        if length.isdigit() and int(length) != size:
            return Failed(self._mismatch(f"{length} bytes instead of {size}"))
        return Stream(self.offset)

    def _busy(self, response: Response) -> Event:
        """Decide on an answer that says: later."""
        self._location, self._hops = "", 0
        delay_ms = self._budget.spend()
        asked_ms = retry_after_ms(response)
        if delay_ms is None or (asked_ms is not None and asked_ms > MAX_RETRY_AFTER_MS):
            wait = f"; it asks to wait for {asked_ms // 1000} s" if asked_ms else ""
            return Failed(
                RegistryError(
                    f"reading {self.wanted.what}: {words_of(response)}{wait}",
                    status=response.status,
                    hint="try again later",
                )
            )
        return Retry(max(delay_ms, asked_ms or 0), words_of(response))

    def _refused(self, response: Response) -> Event:
        wanted, status = self.wanted, response.status
        if status == 404 and wanted.kind == "blob" and self._foreign < len(wanted.urls):
            self._location = _joined(self._own_url(), wanted.urls[self._foreign])
            self._foreign += 1
            return Again("the layer is kept elsewhere")
        message = f"reading {wanted.what}: {words_of(response)}"
        if status == 404 and wanted.kind == "manifest":
            return Failed(
                ManifestNotFound(message, hint=f"check the name and the tag; {self.session.host} has no such image")
            )
        if status in (401, 403):
            return Failed(self._auth_required(response))
        return Failed(RegistryError(message, status=status))

    # --- the words

    def _mismatch(self, what: str) -> DigestMismatch:
        return DigestMismatch(
            f"reading {self.wanted.what}: the registry sent {what}",
            hint="the registry or something between is broken; nothing was kept",
        )

    def _auth_required(self, response: Response, why: str = "") -> AuthRequired:
        session = self.session
        have = session.credentials is not None
        text = why or words_of(response)
        if have:
            hint = f"the credentials for {session.reference.domain} were refused; try others with --creds USER:PASSWORD"
        else:
            hint = (
                "the image may not exist, or needs credentials: --creds USER:PASSWORD, --authfile FILE, "
                f"or `podman login {session.reference.domain}`"
            )
        return AuthRequired(f"reading {self.wanted.what}: {text}", status=response.status, hint=hint)

    def _unreachable(self, failure: TransportFailure) -> RegistryError:
        session = self.session
        host = session.host
        hint = {
            "refused": f"is a registry listening on {host}?",
            "name": "check the name of the registry and this machine's name service",
            "timeout": "check the network and the proxy settings, then try again",
            "broken": "the registry went away in the middle; try again",
        }.get(failure.kind)
        if failure.kind == "tls":
            hint = (
                f"put its certificate into /etc/containers/certs.d/{host}/ca.crt, or use --tls-verify=false "
                "(a registry with plain HTTP needs it too)"
            )
        if not session.settled:
            return RegistryError(f"contacting registry {host}: {failure.text}", hint=hint)
        return RegistryError(f"reading {self.wanted.what} from {host}: {failure.text}", hint=hint)


def _split(url: str) -> SplitResult:
    from urllib.parse import urlsplit

    return urlsplit(url)


def _joined(here: str, target: str) -> str:
    """Return the address that *target* means on the page *here*, "" when it is none."""
    from urllib.parse import urljoin

    try:
        url = urljoin(here, target)
        parts = _split(url)
        return url if parts.hostname and parts.port != 0 else ""
    except ValueError:  # brackets that do not match, a port that is no number
        return ""


def _origin(url: str) -> tuple[str, str, int]:
    parts = _split(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
