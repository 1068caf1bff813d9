"""The network process: make the stack, publish ports, join the tap, shut itself in, carry frames until told to stop.

The messages are drawn in wire.py.
"""

from __future__ import annotations

import _signal
import gc
import posix

from netns import sandbox, slirp, tap, wire
from netns.addressing import choose_ipv4, choose_ipv6, format_ip
from rootless.errors import KernelError, NotSupported, RootlessError, UsageError
from rootless.kernel import namespaces, process
from rootless.kernel.fds import Fd, recv_fds, send_fds
from rootless.spec import jsontext
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from netns.config import NetConfig, PortForward

NAME = "rootless:[net]"
COLLECTED_OBJECTS = 20_000
_STOP_SIGNALS = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)


def stop_signals() -> Fd:
    """Return a descriptor that is readable once we were told to stop; a signal between two turns is not lost.

    Owner: lives as long as the process
    """
    r, w = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    for number in _STOP_SIGNALS:
        _signal.signal(number, lambda *_: None)
    _signal.set_wakeup_fd(w, warn_on_full_buffer=False)
    return Fd(r)


def serve(control: Fd) -> int:
    """Serve one container for whoever holds the other end of *control*; return our exit status.

    Blocks: for the life of the container
    """
    process.set_name(NAME)
    stop = stop_signals()
    try:
        return _serve(control, stop)
    except RootlessError as error:
        posix.write(2, f"{error}\n".encode())  # after "ready" nobody waits for a message
        _send(control, wire.encode_error(error))
        return error.code


def _serve(control: Fd, stop: Fd) -> int:
    data, _ = recv_fds(control)
    if not data:
        return 0
    config = wire.decode_config(data)
    sandbox.limit_resources()
    stack = slirp.Stack(config)
    for port in config.ports:
        stack.forward(port)
    data, received = recv_fds(control, max_fds=2)
    if not data or not received:
        return 0
    for user_namespace in received[1:]:
        become_root(user_namespace)
    device, ipv6 = join(received[0], config)
    for fd in received:
        fd.close()
    # Told before we shut ourselves in, so that the container need not wait for that: no frame is looked at until then.
    _send(control, wire.encode_ready(describe(replace(config, ipv6=ipv6), stack.ports)))
    process.set_pdeathsig(_signal.SIGCONT)  # a stopped process does not see the end of its control socket
    sandbox.shut_in()
    gc.set_threshold(COLLECTED_OBJECTS, 20, 50)
    carry(stack, device, {control: lambda: _answer(control, stack), stop: stop_here})
    return 0


def become_root(user_namespace: Fd) -> None:
    """Join the user namespace that owns the container's, which was made after us.

    Raises: KernelError(setns) - EINVAL with a second thread, so this comes before the one that makes the tap
    """
    namespaces.setns(user_namespace, namespaces.CLONE_NEWUSER)
    posix.setresgid(0, 0, 0)
    posix.setresuid(0, 0, 0)


def join(netns: Fd, config: NetConfig, *, configure: bool = True) -> tuple[Fd, bool]:
    """Make the device in *netns* and configure it; return what carries its frames, and whether IPv6 works there.

    Raises: NotSupported - neither tun nor veth; KernelError
    """
    devices: list[Fd] = []
    ipv6: list[bool] = [config.ipv6]
    name = config.tap_name

    def configured() -> None:
        if configure:
            mac = bytes.fromhex(config.mac.replace(":", ""))
            net6 = choose_ipv6() if config.ipv6 else None
            ipv6[0] = tap.configure(name, config.mtu, mac, choose_ipv4(config.cidr), net6)

    def make_tap() -> None:
        devices.append(tap.open_tap(name))
        configured()

    try:
        tap.in_netns(netns, make_tap)
    except NotSupported as error:
        from netns import veth

        try:
            devices.append(veth.open_veth(netns, name, config.mtu))
        except KernelError as second:
            raise NotSupported(error.feature, (*error.reasons, str(second)), hint=error.hint) from None
        tap.in_netns(netns, configured)
    return devices[0], ipv6[0]


def describe(config: NetConfig, ports: Sequence[PortForward]) -> wire.Ready:
    """Return what the container's network is."""
    net4, net6 = choose_ipv4(config.cidr), choose_ipv6()
    return wire.Ready(
        address=f"{format_ip(net4.guest)}/{net4.bits}",
        gateway=format_ip(net4.gateway),
        nameserver=format_ip(net4.nameserver) if config.dns else "",
        address6=f"{format_ip(net6.guest)}/{net6.bits}" if config.ipv6 else "",
        gateway6=format_ip(net6.gateway) if config.ipv6 else "",
        device=config.tap_name,
        mtu=config.mtu,
        ports=tuple(ports),
    )


def carry(stack: slirp.Stack, device: Fd, watched: Mapping[Fd, Callable[[], bool]]) -> None:
    """Run the loop until the handler of a readable descriptor says False; handlers may change *watched*.

    Blocks: yes
    """
    while True:
        for fd in stack.run(device, list(watched)):
            handler = watched.get(fd)  # None: an earlier handler of this turn has removed it
            if handler is not None and not handler():
                stack.close()
                return


def stop_here() -> bool:
    """Handle a descriptor that means: end."""
    return False


def _answer(control: Fd, stack: slirp.Stack) -> bool:
    """Answer one request; False at the end of the other side."""
    data, extra = recv_fds(control)
    for fd in extra:
        fd.close()
    if not data:
        return False
    try:
        request = jsontext.loads(data)
        if "forward" in request:
            _send(control, wire.encode_bound(stack.forward(wire.decode_port(request["forward"]))))
        elif "unforward" in request:
            stack.unforward(wire.decode_port(request["unforward"]))
            _send(control, wire.encode_ok(True))
        elif "counts" in request:
            _send(control, wire.encode_ok(stack.counts()))
        else:
            raise UsageError("the network process does not know this request")
    except RootlessError as error:
        _send(control, wire.encode_error(error))
    return True


def _send(control: Fd, message: bytes) -> None:
    """Send one message; where the other end is gone it goes to stderr, and EOF will end us."""
    try:
        send_fds(control, message)
    except OSError as error:
        posix.write(2, b"%s (%s)\n" % (message, str(error).encode()))
