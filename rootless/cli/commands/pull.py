"""`rootless pull`: bring images from registries into the store.

`run` forks this verb with --progress-fd, so that its own process never holds httpx and trio; events go there as
lines of JSON instead of to the person.

Source: podman-pull(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.errors import RootlessError, UsageError
from rootless.spec.platform import Platform, from_machine, normalised, parse_platform
from rootless.spec.reference import parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.parser import Parsed
    from rootless.cli.progress import Renderer
    from rootless.plan.options import GlobalOptions
    from rootless.plan.pulling import PullEvent, PullOptions
    from rootless.store.layout import Roots

_SIGTERM = 15
EXIT_TERMINATED = 128 + _SIGTERM
EARLY_WORKERS = 2

COMMAND = Command(
    name="pull",
    summary="Pull an image from a registry",
    usage="IMAGE [IMAGE...]",
    description=(
        "Pulls an image from a registry and stores it locally.\n\n"
        "An image can be pulled by tag or digest. If a tag is not specified, the image with the 'latest' tag is pulled."
    ),
    flags=(
        ("all-tags", "a", "bool", "", "", "All tagged images in the repository will be pulled",
         "one tag at a time can be pulled"),
        ("arch", "", "string", "ARCH", "", "Use ARCH instead of the architecture of the machine for choosing images",
         ""),
        ("authfile", "", "string", "", "",
         "Path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override", ""),
        ("cert-dir", "", "string", "Pathname", "", "Pathname of a directory containing TLS certificates and keys", ""),
        ("creds", "", "string", "Credentials", "",
         "Credentials (USERNAME:PASSWORD) to use for authenticating to a registry", ""),
        ("disable-content-trust", "", "bool", "", "", "This is a Docker specific option and is a NOOP", ""),
        ("os", "", "string", "OS", "", "Use OS instead of the running OS for choosing images", ""),
        ("platform", "", "string", "", "",
         "Specify the platform for selecting the image.  (Conflicts with arch and os)", ""),
        ("policy", "", "string", "", '"always"', "Pull image policy (always|missing|never|newer)", ""),
        ("progress-fd", "", "uint", "FD", "", "Write events to FD, a JSON object a line, instead of showing them", ""),
        ("quiet", "q", "bool", "", "", "Suppress output information when pulling images", ""),
        ("tls-verify", "", "bool", "", "",
         "Require HTTPS and verify certificates when contacting registries (default true, except for loopback)", ""),
        ("variant", "", "string", "VARIANT", "",
         "Use VARIANT instead of the running architecture variant for choosing images", ""),
    ),
    examples=("pull imageName", "pull docker.io/library/debian:stable"),
    min_args=1,
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Pull each image in turn; print its id."""
    parsed, options = parse(COMMAND, argv, options)
    progress_fd = parsed.number("progress-fd")
    if progress_fd is not None:
        return _report_to(progress_fd, parsed, options)
    from rootless.cli.progress import make_renderer

    failed: list[RootlessError] = []
    roots, request = _prepare(parsed, options)
    for name in parsed.args:
        renderer = make_renderer(sys.stderr, quiet=parsed.flag("quiet"))
        try:
            image_id = _pull(roots, name, request, renderer)
        except RootlessError as error:
            if len(parsed.args) == 1:
                raise
            failed.append(error)
            continue
        sys.stdout.write(image_id + "\n")
        sys.stdout.flush()
    if failed:
        from rootless.cli.main import report

        return [report(error) for error in failed][-1]
    return 0


def platform_from(parsed: Parsed) -> Platform:
    """Return the platform that --platform or --os, --arch and --variant ask for.

    Raises: UsageError
    """
    ours = from_machine(os.uname().machine)
    if parsed.given("platform"):
        if parsed.given("arch") or parsed.given("os"):
            raise UsageError("--platform option can not be specified with --arch or --os")
        return parse_platform(parsed.text("platform"), ours)
    arch = parsed.text("arch")
    variant = parsed.text("variant") or ("" if arch else ours.variant)
    return normalised(Platform(parsed.text("os") or ours.os, arch or ours.architecture, variant))


def _prepare(parsed: Parsed, options: GlobalOptions) -> tuple[Roots, PullOptions]:
    """Check the command line, then enter the user namespace: layers hold files of its ids.

    Raises: UsageError, ReferenceInvalid, StoreError, KernelError
    """
    from rootless.cli.main import warn
    from rootless.kernel.enter import Entering
    from rootless.plan.pulling import POLICIES, PullOptions
    from rootless.plan.userns import parse_mode
    from rootless.store.layout import find_roots

    policy = parsed.text("policy", "always")
    if policy not in POLICIES:
        raise UsageError(f'unsupported pull policy "{policy}"', hint=f"choose one of {', '.join(POLICIES)}")
    if parsed.text("creds"):
        # Checked before anything is contacted; the same text is parsed again where it is used.
        user, colon, _ = parsed.text("creds").partition(":")
        if not user or not colon:
            raise UsageError("credentials are missing a user name or a password", hint="write --creds USER:PASSWORD")
    for name in parsed.args:
        parse_reference(name)
    request = PullOptions(
        platform=platform_from(parsed),
        policy=policy,
        tls_verify=parsed.flag("tls-verify") if parsed.given("tls-verify") else None,
        creds=parsed.text("creds"),
        authfile=parsed.text("authfile"),
        cert_dir=parsed.text("cert-dir"),
        ids=(os.getuid(), os.getgid()),
    )
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    entering = Entering(roots.run, parse_mode(""), os.environ)
    import rootless.engine.straight  # noqa: F401  # takes as long as newuidmap, which runs meanwhile

    identity = entering.finish()
    if not parsed.given("progress-fd"):  # whoever started us enters too, and says it
        for text in identity.warnings:
            warn(text)
    return roots, request


def pull_for_parent(argv: list[str]) -> int:
    """Pull as `rootless pull --progress-fd=CHANNEL_FD ARGV` does, in a fork of the process that wants the image.

    Raises: UsageError
    """
    from rootless.kernel.fork import CHANNEL_FD
    from rootless.plan.options import GlobalOptions

    parsed, options = parse(COMMAND, [f"--progress-fd={CHANNEL_FD}", *argv], GlobalOptions())
    return _report_to(CHANNEL_FD, parsed, options, tied=True)


def _report_to(fd: int, parsed: Parsed, options: GlobalOptions, *, tied: bool = False) -> int:
    """Pull one image for a parent that reads our events; the error is its last line. *tied*: end when it ends."""
    from rootless.kernel import process
    from rootless.plan.pulling import Pulled, PullFailed

    if len(parsed.args) != 1:
        raise UsageError("--progress-fd takes one image")
    os.set_inheritable(fd, False)  # the unpacking processes must not keep the parent waiting for our end
    renderer = _Reporter(fd)
    try:
        roots, request = _prepare(parsed, options)
        if tied:
            # Here, because a change of credentials clears it. Who died before is noticed by the first event.
            process.set_pdeathsig(_SIGTERM)
        _pull(roots, parsed.args[0], request, renderer)
        last: PullEvent = renderer.result if renderer.result is not None else Pulled("", "")
        status = 0
    except RootlessError as error:
        last, status = PullFailed(error.message, error.hint or "", error.code), error.code
    except OSError as error:
        last, status = PullFailed((error.strerror or str(error)).lower()), RootlessError.code
    try:
        renderer.write(last)
    except BrokenPipeError:
        pass  # whoever wanted to know has gone
    return status


class _Reporter:
    """Writes events to a descriptor; the final one is kept until everything is closed."""

    def __init__(self, fd: int) -> None:
        from rootless.plan.pulling import Pulled

        self._fd = fd
        self._final: type = Pulled
        self.result: PullEvent | None = None

    def show(self, event: PullEvent) -> None:
        if isinstance(event, self._final):
            self.result = event
        else:
            self.write(event)

    def write(self, event: PullEvent) -> None:
        from rootless.plan.pulling import encode_event

        line = encode_event(event)
        while line:
            line = line[os.write(self._fd, line) :]

    def close(self) -> None:
        pass


def _pull(roots: Roots, name: str, request: PullOptions, renderer: Renderer) -> str:
    """Pull *name* and show its events; return the image's id.

    Raises: RootlessError, KeyboardInterrupt, SystemExit when a signal ends us
    """
    try:
        image_id, announced = _pull_straight(roots, name, request, renderer)
        return image_id or _pull_with_trio(roots, name, request, renderer, announced)
    finally:
        renderer.close()


def _pull_straight(roots: Roots, name: str, request: PullOptions, renderer: Renderer) -> tuple[str, bool]:
    """Pull from a registry on this machine; the id is "" if it takes more. Also says whether events were shown."""
    import _signal

    from rootless.engine.straight import NotPlain, pull

    shown = False

    def show(event: PullEvent) -> None:
        nonlocal shown
        shown = True
        renderer.show(event)

    def stop(number: int, _frame: object) -> None:
        for other in (_signal.SIGTERM, _signal.SIGHUP):
            _signal.signal(other, _signal.SIG_IGN)  # what follows is cleaning up, once
        raise SystemExit(EXIT_TERMINATED)

    before = {}
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) != _signal.SIG_IGN:  # nohup(1)
            before[number] = _signal.signal(number, stop)
    try:
        return pull(roots, name, request, show).id, True
    except NotPlain:
        return "", shown
    finally:
        for number, handler in before.items():
            _signal.signal(number, handler)


def _pull_with_trio(roots: Roots, name: str, request: PullOptions, renderer: Renderer, announced: bool) -> str:
    """As `_pull`; whatever hides in an exception group is unwrapped here."""
    import signal

    from rootless.unpack.spawning import start_worker

    # They start on the other processor while this one imports trio and httpx, which takes longer.
    workers = [start_worker() for _ in range(EARLY_WORKERS if request.policy in ("always", "missing") else 0)]
    import trio

    from rootless.engine.pulling import first_error, pull

    terminated = False

    async def stop_on_signals(scope: trio.CancelScope) -> None:
        nonlocal terminated
        hang_up = (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else ()  # nohup(1)
        with trio.open_signal_receiver(signal.SIGTERM, *hang_up) as arriving:
            async for _ in arriving:
                terminated = True
                scope.cancel()

    async def run() -> str:
        sender, receiver = trio.open_memory_channel[PullEvent](64)
        image_id = ""

        async def work() -> None:
            nonlocal image_id
            # Closed without a checkpoint: the end of the events cancels this task, and an error must outlive that.
            with sender:
                image_id = (await pull(roots, name, request, sender, workers, announced=announced)).id

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_on_signals, nursery.cancel_scope)
            nursery.start_soon(work)
            async for event in receiver:
                renderer.show(event)
            nursery.cancel_scope.cancel()
        return image_id

    from rootless.plan.pulling import PullEvent

    try:
        image_id = trio.run(run)
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    if terminated:
        raise SystemExit(EXIT_TERMINATED)
    return image_id
