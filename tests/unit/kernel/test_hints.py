"""The table of hints: every row can be reached, says what to do, and has its section in docs/errors.md."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rootless.cli.commands import doctor
from rootless.errors import KernelError
from rootless.kernel import hints
from rootless.spec import facts as f
from rootless.spec.facts import Finding, HostFacts, Settings
from rootless.spec.record import replace

PLAIN = Settings(uid=1000, name="ann", enter="/opt/rootless/enter", max_user_namespaces=100, kernel="6.1")
HEADINGS = {
    line[3:].strip()
    for line in (Path(__file__).parents[3] / "docs/errors.md").read_text().splitlines()
    if line.startswith("## ")
}

# settings, syscall, errno, a part of the message -> anchor, a word of the hint
TABLE = [
    (
        replace(PLAIN, apparmor_restricts_userns=True),
        "unshare",
        errno.EPERM,
        "",
        "apparmor-userns",
        "/opt/rootless/enter",
    ),
    (replace(PLAIN, apparmor_restricts_userns=True), "uid_map", errno.EPERM, "", "apparmor-userns", "profile"),
    (replace(PLAIN, apparmor_restricts_userns=True), "mount", errno.EACCES, "", "apparmor-userns", "profile"),
    (replace(PLAIN, max_user_namespaces=0), "unshare", errno.ENOSPC, "", "no-userns", "max_user_namespaces=15000"),
    (PLAIN, "unshare", errno.ENOSPC, "", "nesting", "is 100"),
    (replace(PLAIN, userns_clone=0), "unshare", errno.EPERM, "", "userns-clone", "unprivileged_userns_clone=1"),
    (replace(PLAIN, container="docker"), "unshare", errno.EPERM, "", "nested-seccomp", "seccomp=unconfined"),
    (replace(PLAIN, seccomp_filtered=True), "unshare", errno.EPERM, "", "nested-seccomp", "seccomp=unconfined"),
    (PLAIN, "unshare", errno.EPERM, "", "userns-forbidden", "doctor"),
    (replace(PLAIN, uid=0), "uid_map", errno.EPERM, "", "root-map", "SETFCAP"),
    (replace(PLAIN, nested=True), "newuidmap", errno.EPERM, "", "nested-map", "setcap"),
    (PLAIN, "newuidmap", errno.EPERM, "", "newuidmap", "ranges of ann"),
    (PLAIN, "newgidmap", errno.EPERM, "", "newuidmap", "ranges of ann"),
    (
        replace(PLAIN, container="podman", apparmor_profile="crun"),
        "mount",
        errno.EACCES,
        "",
        "nested-apparmor",
        "(crun)",
    ),
    (replace(PLAIN, apparmor_profile="shell"), "mount", errno.EACCES, "", "apparmor-confined", "profile shell"),
    (replace(PLAIN, apparmor_profile="shell"), "open", errno.EACCES, "", "apparmor-confined", "attach_disconnected"),
    (PLAIN, "mount(proc)", errno.EPERM, "", "masked-proc", "unmask=ALL"),
    (replace(PLAIN, container="podman"), "mount(overlay)", errno.EINVAL, "", "overlay", "volume"),
    (PLAIN, "mount(overlay)", errno.EINVAL, "", "overlay", "fuse or copy"),
    (PLAIN, "open", errno.EACCES, "open /dev/fuse: x", "fuse-device", "chmod 0666 /dev/fuse"),
    (replace(PLAIN, container="podman"), "open", errno.ENOENT, "/dev/fuse", "fuse-device", "--device /dev/fuse"),
    (PLAIN, "open", errno.ENOENT, "/dev/fuse", "fuse-device", "modprobe fuse"),
    (PLAIN, "open", errno.EACCES, "/dev/net/tun", "tun-device", "chmod 0666 /dev/net/tun"),
    (replace(PLAIN, container="podman"), "open", errno.ENOENT, "/dev/net/tun", "tun-device", "--device /dev/net/tun"),
    (PLAIN, "open", errno.ENOENT, "/dev/net/tun", "tun-device", "modprobe tun"),
    (PLAIN, "sethostname", errno.EPERM, "", "hostname", "outer name"),
    (PLAIN, "clone3", errno.ENOSYS, "", "clone3", "older clone"),
    (replace(PLAIN, memfd_noexec=2), "posix_spawn", errno.EACCES, "", "memfd-noexec", "memfd_noexec=1"),
    (replace(PLAIN, memfd_noexec=2), "memfd_create", errno.EACCES, "", "memfd-noexec", "memfd_noexec=1"),
    (PLAIN, "openat2", errno.ENOSYS, "", "old-kernel", "this is 6.1"),
    (PLAIN, "write", errno.ENOSPC, "", "disk-full", "--root"),
    (PLAIN, "mkdir", errno.EROFS, "", "read-only", "--runroot"),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case[4]}-{case[1]}-{errno.errorcode[case[2]]}")
def test_the_right_row_is_found(case: tuple[Settings, str, int, str, str, str]) -> None:
    settings, syscall, number, what, anchor, word = case
    hint = hints.find(settings, syscall, number, what)
    assert hint is not None and hint.anchor == anchor
    assert word in hints.text(hint, settings)


def test_every_row_is_reached() -> None:
    reached = {id(hints.find(*case[:4])) for case in TABLE}
    assert [hint.anchor for hint in hints.HINTS if id(hint) not in reached] == []


def test_what_is_not_known_gets_no_hint() -> None:
    assert hints.find(PLAIN, "open", errno.ENOENT, "/etc/x") is None
    assert hints.find(PLAIN, "fsync", errno.EIO) is None


def test_every_anchor_has_a_section_and_every_section_an_anchor() -> None:
    anchors = {hint.anchor for hint in hints.HINTS} | set(doctor.ANCHORS.values()) | {"doctor"}
    assert anchors == HEADINGS


def test_an_error_is_looked_up_with_what_it_was_about() -> None:
    text = hints.hint_for(KernelError("open", errno.EACCES, "/dev/net/tun"), {})
    assert text is not None and "/dev/net/tun" in text


def test_the_profile_names_the_program() -> None:
    text = hints.apparmor_profile("/opt/a b/enter")
    assert 'profile rootless "/opt/a b/enter" flags=(unconfined) {' in text and "  userns," in text


def test_settings_are_read_from_the_files_of_the_machine(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "root"
    for name, text in {
        "self/uid_map": "0 1000 1\n",
        "self/status": "Seccomp:\t2\n",
        "self/attr/current": "containers-default-0.50 (enforce)\n",
        "self/mountinfo": "1 0 0:1 / / rw - overlay overlay rw\n",
        "sys/kernel/apparmor_restrict_unprivileged_userns": "1\n",
        "sys/user/max_user_namespaces": "0\n",
        "sys/kernel/unprivileged_userns_clone": "0\n",
        "sys/vm/memfd_noexec": "2\n",
    }.items():
        (proc / name).parent.mkdir(parents=True, exist_ok=True)
        (proc / name).write_text(text)
    (root / "run").mkdir(parents=True)
    (root / "run/.containerenv").touch()
    (root / "etc").mkdir()
    (root / "etc/subuid").write_text("a:100000:65536\nb:300000:10\n")
    found = hints.read_settings({}, proc=str(proc), root=str(root))
    assert found.nested and found.seccomp_filtered and found.apparmor_restricts_userns
    assert (found.max_user_namespaces, found.userns_clone, found.memfd_noexec) == (0, 0, 2)
    assert found.container == "podman" and found.apparmor_profile == "containers-default-0.50 (enforce)"
    assert found.free_id == 300010


def test_a_machine_made_from_an_image_is_no_container(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/uid_map").write_text("0 0 4294967295\n")
    (tmp_path / "self/mountinfo").write_text("1 0 0:1 / / rw - ext4 /dev/vda rw\n")
    (tmp_path / ".dockerenv").touch()
    assert hints.read_settings({}, proc=str(tmp_path), root=str(tmp_path)).container == ""


# ---- doctor's table, without a machine


def facts(*failing: Finding, settings: Settings = PLAIN) -> HostFacts:
    failed = {one.name: one for one in failing}
    return HostFacts("", settings, tuple(failed.get(name, Finding(name, True)) for name in doctor.ROWS))


def test_everything_works() -> None:
    text = doctor.table([doctor.row(one, PLAIN) for one in facts().findings], facts())
    assert "instead" not in text and text.endswith("\nContainers can run on this machine.\n")


@pytest.mark.parametrize("name", doctor.ROWS)
def test_each_row_says_what_is_done_instead(name: str) -> None:
    one = doctor.row(Finding(name, False, "reason", "", 0), PLAIN)
    assert one["Instead"] and one["Anchor"].partition("#")[2] in HEADINGS
    broken = facts(Finding(name, False))
    assert broken.can_run == (name not in f.ESSENTIAL)


def test_a_failure_names_errno_and_remedy() -> None:
    one = doctor.row(Finding(f.TUN, False, "open /dev/net/tun: permission denied", "open", errno.EACCES), PLAIN)
    assert one["Errno"] == "EACCES" and "chmod 0666 /dev/net/tun" in one["Remedy"]
    ranges = doctor.row(Finding(f.RANGES, False, "nothing"), replace(PLAIN, free_id=500000))
    assert ranges["Remedy"] == "as root: usermod --add-subuids 500000-565535 --add-subgids 500000-565535 ann"


def test_what_cannot_run_is_named() -> None:
    broken = facts(Finding(f.USERNS, False, "unshare: no", "unshare", errno.EPERM))
    text = doctor.table([doctor.row(one, PLAIN) for one in broken.findings], broken)
    assert text.endswith("\nContainers cannot run on this machine: user namespace.\n")


def test_the_profile_is_printed_where_apparmor_stands_in_the_way() -> None:
    restricted = replace(PLAIN, apparmor_restricts_userns=True)
    broken = facts(Finding(f.USERNS, False, "", "mount", errno.EACCES), settings=restricted)
    assert doctor.wants_profile(broken)
    assert not doctor.wants_profile(facts(settings=restricted))  # it is loaded already
    advice = doctor.advice_on_apparmor(hints.apparmor_profile("/opt/enter"))
    assert "apparmor_parser -r" in advice and advice.count("EOF") == 2
