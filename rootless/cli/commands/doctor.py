"""`rootless doctor`: try what a container needs from this machine, and say what to do about what fails.

Each row of the table is one thing that was used in a throw-away child (`kernel/probe.py`): works or not, the errno,
what the engine does instead, and the command for an administrator (`kernel/hints.py`). The exit status is 0 when a
container can run at all, else 1.
"""

from __future__ import annotations

import errno
import os
import sys

from rootless.cli import output
from rootless.cli.parser import Command, parse
from rootless.kernel import hints
from rootless.kernel.probe import NO_NAMESPACE, probe_all
from rootless.plan.userns import INSTALL_UIDMAP, RANGE_SIZE
from rootless.spec import facts as f
from rootless.spec.record import replace
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.options import GlobalOptions
    from rootless.spec.facts import Finding, HostFacts, Settings

COMMAND = Command(
    name="doctor",
    summary="Try what a container needs from this machine and say what works",
    description=(
        "Tries each thing that a container may need by using it, and prints for each whether it works, the error\n"
        "otherwise, what rootless does instead, and the command with which an administrator can change it.\n\n"
        "The exit status is 0 when a container can run at all, else 1."
    ),
    flags=(("format", "", "string", "", "", "Change the output format to JSON or a Go template", ""),),
    examples=("doctor", "doctor --format json"),
    max_args=0,
)

# name -> (what it is, what the engine does without it)
ROWS: dict[str, tuple[str, str]] = {
    f.USERNS: ("user namespace", "no container can run"),
    f.RANGES: ("subordinate ids", "one id is mapped, owners in images are squashed"),
    f.IDMAP: ("id maps", "one id is mapped, owners in images are squashed"),
    f.FRESH_PROC: ("fresh /proc", "the outer /proc is shown"),
    f.HOSTNAME: ("host name", "the container keeps the outer host name"),
    f.OVERLAY: ("overlay mount", "storage driver fuse, or copy"),
    f.FUSE: ("FUSE mount", "storage driver overlay, or copy"),
    f.TUN: ("tap device", "no private network: --network none or host"),
    f.PING: ("ping", "only the gateway answers a ping"),
    f.CGROUP: ("cgroup delegation", "limits (--memory, --cpus, ...) are refused"),
    f.SECCOMP: ("seccomp filter", "only --security-opt seccomp=unconfined"),
    f.NOTIFY: ("seccomp notify", "no SCMP_ACT_NOTIFY in profiles"),
    f.MEMFD: ("program in memory", "a read-only mount of the installed file is run"),
    f.CLONE3: ("clone3", "clone, then cgroup.procs"),
    f.OPENAT2: ("openat2", "no container can run"),
    f.MOUNT_API: ("mount descriptors", "mount(2) on private paths"),
    f.IDMAPPED: ("id-mapped mounts", "owners are changed in place"),
    f.STORE: ("store", "no image can be kept"),
    f.XATTR: ("user xattrs", "no overlay; owners cannot be recorded"),
    f.REFLINK: ("reflinks", "copies take their full size"),
    f.RUN_ROOT: ("run root", "no container can run"),
}


def main(argv: list[str], options: GlobalOptions) -> int:
    """Probe, print, judge."""
    parsed, options = parse(COMMAND, argv, options)
    format = parsed.text("format")
    environ = os.environ
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=environ, uid=os.getuid()
    )
    facts = probe_all(roots.data, roots.run, environ)
    rows = [row(with_binding(finding), facts.settings) for finding in facts.findings]
    profile = hints.apparmor_profile(facts.settings.enter) if wants_profile(facts) else ""
    if format:
        value = {
            "CanRun": facts.can_run,
            "Kernel": facts.settings.kernel,
            "Container": facts.settings.container,
            "AppArmorProfile": profile,
            "Checks": rows,
        }
        output.document(value, format=format, name="doctor")
    else:
        sys.stdout.write(table(rows, facts) + (advice_on_apparmor(profile) if profile else ""))
    return 0 if facts.can_run else 1


def with_binding(finding: Finding) -> Finding:
    """Return the finding of the tap, which is of no use without our binding to libslirp."""
    if finding.name != f.TUN or not finding.works:
        return finding
    try:
        import netns._slirp  # noqa: F401
    except ImportError as error:
        return replace(finding, works=False, detail=f"the kernel allows it, but libslirp is not there: {error}")
    return finding


def row(finding: Finding, settings: Settings) -> dict[str, Any]:
    """Return one line of the answer, with Go's kind of field names."""
    title, instead = ROWS[finding.name]
    silent = finding.works or finding.detail == NO_NAMESPACE
    hint = None if silent else hints.find(settings, finding.syscall, finding.errno, finding.detail)
    remedy = "" if silent else own_remedy(finding, settings)
    if hint is not None and not remedy:
        remedy = hints.text(hint, settings)
    anchor = hint.anchor if hint is not None else ANCHORS.get(finding.name, "doctor")
    return {
        "Name": finding.name,
        "Title": title,
        "Works": finding.works,
        "Syscall": finding.syscall,
        "Errno": errno.errorcode.get(finding.errno, str(finding.errno)) if finding.errno else "",
        "Detail": finding.detail,
        "Instead": "" if silent else instead,
        "Remedy": remedy,
        "Anchor": "" if finding.works else f"docs/errors.md#{anchor}",
        "Essential": finding.name in f.ESSENTIAL,
    }  # fmt: skip


ANCHORS = {
    f.RANGES: "subordinate-ids", f.IDMAP: "newuidmap", f.FUSE: "pyfuse3", f.TUN: "libslirp", f.PING: "ping",
    f.CGROUP: "cgroup", f.XATTR: "store", f.REFLINK: "store", f.STORE: "store", f.RUN_ROOT: "run-root",
}  # fmt: skip


def own_remedy(finding: Finding, settings: Settings) -> str:
    """Return what to do where the reason is no failed system call, "" where the table of hints knows."""
    name, detail = finding.name, finding.detail
    if name == f.RANGES and settings.nested:
        return "give the namespace or container around us more ids"
    if name == f.RANGES:
        ids = f"{settings.free_id}-{settings.free_id + RANGE_SIZE - 1}"
        return f"as root: usermod --add-subuids {ids} --add-subgids {ids} {settings.name}"
    if name == f.IDMAP and "not found" in detail:
        return f"as root: {INSTALL_UIDMAP}"
    if name == f.IDMAP and "no subordinate ids" in detail:
        return "see subordinate ids"
    if name == f.IDMAP and not finding.syscall:
        hint = hints.find(settings, "newuidmap", errno.EPERM, detail)
        return hints.text(hint, settings) if hint is not None else ""
    if name == f.FUSE and "pyfuse3" in detail:
        return "pip install 'rootless[fuse]' (needs a C compiler and libfuse3-dev)"
    if name == f.TUN and "cannot open shared object" in detail:
        return "as root: apt-get install libslirp0 (Debian, Ubuntu), dnf install libslirp (Fedora)"
    if name == f.TUN and "libslirp" in detail:
        return "install libslirp-dev (Debian, Ubuntu) and install rootless again with pip"
    if name == f.PING:
        return 'as root: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
    if name == f.CGROUP:
        if detail.startswith("v2"):
            return "start it in a scope of your own: systemd-run --user --scope -p Delegate=yes rootless run ..."
        return "as root: boot with systemd.unified_cgroup_hierarchy=1, so that systemd can delegate cgroup v2"
    if name in (f.XATTR, f.REFLINK):
        return "put the store on another file system with --root (xfs, btrfs and bcachefs have reflinks)"
    if name == f.STORE:
        return "choose a directory that you may write with --root or ROOTLESS_ROOT"
    if name == f.RUN_ROOT:
        return "choose a local directory with --runroot or ROOTLESS_RUNROOT"
    return ""


def wants_profile(facts: HostFacts) -> bool:
    """Say whether AppArmor is what stands in the way."""
    return facts.settings.apparmor_restricts_userns and not (facts.works(f.USERNS) and facts.works(f.MOUNT_API))


def table(rows: list[dict[str, Any]], facts: HostFacts) -> str:
    """Return the answer for people: one line for what works, three for what does not."""
    width = max(len(title) for title, _ in ROWS.values()) + 2
    lines: list[str] = []
    for one in rows:
        mark = "ok" if one["Works"] else one["Errno"] or "no"
        lines.append(f"{one['Title']:{width}}{mark:9}{one['Detail']}".rstrip())
        pad = " " * (width + 9)
        if one["Instead"]:
            lines.append(f"{pad}instead: {one['Instead']}")
        if one["Remedy"]:
            lines.append(f"{pad}to change it: {one['Remedy']}")
    failed = [one["Title"] for one in rows if not one["Works"] and one["Essential"]]
    lines.append("")
    if facts.can_run:
        lines.append("Containers can run on this machine.")
    else:
        lines.append(f"Containers cannot run on this machine: {', '.join(failed)}.")
    return "\n".join(lines) + "\n"


def advice_on_apparmor(profile: str) -> str:
    """Return the commands that load *profile*, ready to be pasted by an administrator."""
    return (
        "\nAppArmor grants user namespaces by path. As root:\n\n"
        f"cat > /etc/apparmor.d/rootless <<'EOF'\n{profile}EOF\napparmor_parser -r /etc/apparmor.d/rootless\n"
    )
