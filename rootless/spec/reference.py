"""Image references: `[DOMAIN[:PORT]/]PATH[:TAG][@DIGEST]`, checked and normalised.

Shape:   reference := name [ ":" tag ] [ "@" digest ]
         name      := [ domain "/" ] component { "/" component }
         domain    := host [ ":" port ]; host is a DNS name, an IPv4 address or "[" IPv6 "]"
         component := alnum { ( "." | "_" | "__" | "-"+ ) alnum }, lower case
         tag       := word character, then at most 127 of word characters, "." and "-"
`alpine` means `docker.io/library/alpine:latest`. Without regular expressions: `run` imports this
before its budget of 15 ms begins to count, and `re` alone costs half of that.
Source:  the grammar of the distribution project's reference package
"""

from __future__ import annotations

from rootless.errors import ReferenceInvalid
from rootless.spec.digest import Digest, is_hex, parse_digest
from rootless.spec.record import record

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
LIBRARY = "library"
NAME_MAX_CHARS = 255
TAG_MAX_CHARS = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | {"_"}
_TAG = _WORD | {".", "-"}
_DIGITS = frozenset("0123456789")
_HEX_COLON = frozenset("0123456789abcdefABCDEF:.")

#: Prefixes that name another place than a registry.
_TRANSPORTS = ("docker-archive", "oci-archive", "docker-daemon", "containers-storage", "oci", "dir", "ostree", "sif")


@record
class ImageReference:
    """A normalised reference: the domain is always there, and a tag or a digest."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Domain and path, as podman prints a REPOSITORY."""
        return f"{self.domain}/{self.path}"

    @property
    def selector(self) -> str:
        """What the registry's manifest address ends with: the digest, else the tag."""
        return str(self.digest) if self.digest is not None else (self.tag or DEFAULT_TAG)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.domain}/{self.path}{tag}{digest}"


def parse_reference(text: str) -> ImageReference:
    """Return the normalised reference that *text* means.

    A tag beside a digest is dropped, as podman does: the digest alone decides what is fetched.
    Raises: ReferenceInvalid
    """
    rest = text
    for transport in _TRANSPORTS:
        if text.startswith(transport + ":") and not _is_port(text[len(transport) + 1 :].partition("/")[0]):
            raise ReferenceInvalid(
                f"{text!r}: the transport {transport!r} is not supported",
                hint="name an image in a registry, as docker.io/library/alpine:latest",
            )
    if rest.startswith("docker://"):
        rest = rest[len("docker://") :]
    if not rest:
        raise _invalid(text, "the name is empty")
    if is_hex(rest, 64):
        raise _invalid(text, "64 hex digits are an image id, not a name")
    rest, at, digest_text = rest.partition("@")
    digest = _digest(text, digest_text) if at else None
    domain, path_tag = _split_domain(rest)
    path, colon, tag = path_tag.partition(":")
    if colon:
        _check_tag(text, tag)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"{LIBRARY}/{path}"
    _check_domain(text, domain)
    _check_path(text, path)
    if len(path) > NAME_MAX_CHARS:
        raise _invalid(text, f"the repository name is longer than {NAME_MAX_CHARS} characters")
    if digest is not None:
        return ImageReference(domain, path, None, digest)
    return ImageReference(domain, path, tag if colon else DEFAULT_TAG)


def familiar(reference: ImageReference) -> str:
    """Return the shortest text that means *reference*, as docker shows it."""
    name = reference.name
    if reference.domain == DEFAULT_DOMAIN:
        name = reference.path
        if name.startswith(LIBRARY + "/") and name.count("/") == 1:
            name = name[len(LIBRARY) + 1 :]
        if name in _TRANSPORTS:  # `oci:latest` would mean something else
            name = reference.path
    tag = f":{reference.tag}" if reference.tag is not None else ""
    return f"{name}{tag}" if reference.digest is None else f"{name}{tag}@{reference.digest}"


def candidates(text: str) -> tuple[ImageReference, ...]:
    """Return the normalised references that *text* may mean in the local store, best first.

    What was built or tagged here without a registry lives under `localhost/`, and podman finds it
    there by its short name before it asks for the public one.
    Raises: ReferenceInvalid
    """
    reference = parse_reference(text)
    first = text.partition("@")[0]
    if text.startswith("docker://") or _split_domain(first)[0] != DEFAULT_DOMAIN or first.startswith("docker.io/"):
        return (reference,)
    short = first.partition(":")[0]
    return (ImageReference("localhost", short, reference.tag, reference.digest), reference)


def is_loopback(domain: str) -> bool:
    """Tell whether *domain* names this machine: localhost, 127.0.0.0/8 or [::1], with or without a port."""
    host = split_port(domain)[0].lower()
    if host in ("localhost", "[::1]"):
        return True
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(_DIGITS.issuperset(p) and p for p in parts)


def split_port(domain: str) -> tuple[str, int | None]:
    """Return host and port of *domain*; an IPv6 host keeps its brackets."""
    host, colon, port = domain.rpartition(":")
    if colon and _is_port(port) and not host.endswith(":") and (host.endswith("]") or "]" not in domain):
        return host, int(port)
    return domain, None


def _invalid(text: str, why: str) -> ReferenceInvalid:
    return ReferenceInvalid(
        f"invalid reference format {text!r}: {why}", hint="write it as [REGISTRY[:PORT]/]NAME[:TAG][@DIGEST]"
    )


def _digest(text: str, digest: str) -> Digest:
    try:
        return parse_digest(digest)
    except ReferenceInvalid as error:
        raise _invalid(text, error.message) from None


def _is_port(text: str) -> bool:
    return 0 < len(text) <= 5 and _DIGITS.issuperset(text) and int(text) <= 65535


def _split_domain(name: str) -> tuple[str, str]:
    """Split the domain off, by docker's rule: a first part with a dot, a port or an upper-case letter, or localhost."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        return first, rest
    return DEFAULT_DOMAIN, name


def _check_tag(text: str, tag: str) -> None:
    if not tag or tag[0] not in _WORD or not _TAG.issuperset(tag):
        raise _invalid(text, f"the tag {tag!r} may hold letters, digits, '_', '.' and '-'")
    if len(tag) > TAG_MAX_CHARS:
        raise _invalid(text, f"the tag is longer than {TAG_MAX_CHARS} characters")


def _check_domain(text: str, domain: str) -> None:
    host, port = split_port(domain)
    if port is None and ":" in domain and domain[0] != "[":
        raise _invalid(text, f"{domain.rpartition(':')[2]!r} is not a port")
    if host.startswith("["):
        if not host.endswith("]") or not _HEX_COLON.issuperset(host[1:-1]) or host.count(":") < 2:
            raise _invalid(text, f"{host!r} is not an IPv6 address")
        return
    for label in host.split("."):
        if not label or not _ALNUM.issuperset(label.replace("-", "")) or label[0] == "-" or label[-1] == "-":
            raise _invalid(text, f"{host!r} is not a host name")


def _check_path(text: str, path: str) -> None:
    if path.lower() != path:
        raise _invalid(text, "the repository name must be lower case")
    for component in path.split("/"):
        if not _is_component(component):
            what = f"the part {component!r} of the name" if component else "an empty part of the name"
            raise _invalid(text, f"{what} is not letters and digits joined by '.', '_', '__' or dashes")


def _is_component(text: str) -> bool:
    at, end = 0, len(text)
    while True:
        start = at
        while at < end and text[at] in _LOWER:
            at += 1
        if at == start:
            return False
        if at == end:
            return True
        start = at
        while at < end and text[at] not in _LOWER:
            at += 1
        separator = text[start:at]
        if separator not in (".", "_", "__") and separator.strip("-"):
            return False
