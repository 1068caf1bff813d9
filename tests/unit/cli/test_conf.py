"""containers.conf: which file wins, what a key becomes, that a flag is stronger, and that the cache is the files'."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rootless.cli import conf
from rootless.cli.confread import defaults_of, simple
from rootless.cli.flags_run import run_options
from rootless.cli.parser import parse
from rootless.cli.table_run import COMMAND
from rootless.errors import UsageError
from rootless.plan.options import GlobalOptions, RunOptions, UlimitRequest
from rootless.spec.record import replace


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory whose containers.conf is the only one."""
    monkeypatch.setattr(conf, "_SYSTEM", (str(tmp_path / "system.conf"),))
    (tmp_path / ".config/containers/containers.conf.d").mkdir(parents=True)
    return tmp_path


def options(text: str, tmp_path: Path, *argv: str) -> RunOptions:
    path = tmp_path / "x.conf"
    path.write_text(text)
    parsed, everywhere = parse(COMMAND, [*argv, "image"], GlobalOptions())
    fields = conf.apply(parsed, defaults_of([str(path)]))
    return replace(run_options(parsed, everywhere, {}, "/", str), **fields)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ('ipcns = "host"', "ipc", "host"),
        ('userns = "keep-id"', "userns", "keep-id"),
        ('shm_size = "1m"', "shm_size", 1 << 20),
        ("init = true", "init", True),
        ("http_proxy = false", "proxy_env", ()),
        ('log_driver = "none"', "log_driver", "none"),
        ("log_size_max = 4096", "log_opts", (("max-size", "4096"),)),
        ('dns_servers = ["1.2.3.4"]', "dns", ("1.2.3.4",)),
        ('annotations = ["a=b"]', "annotations", (("a", "b"),)),
        ('default_ulimits = ["nofile=5:6"]', "ulimits", (UlimitRequest("nofile", 5, 6),)),
        ('default_capabilities = ["chown"]', "default_capabilities", ("CAP_CHOWN",)),
        ('env = ["A=b"]', "default_env", (("A", "b"), ("container", "rootless"))),
        ("pids_limit = 9", "default_pids", 9),
        ("pids_limit = -1", "default_pids", 0),
        ('umask = "0027"', "umask", "0027"),
        ('netns = "none"', "network", "none"),
        ('netns = "bridge"', "network", "private"),
        ('default_sysctls = ["net.a=1", "kernel.msgmax=5"]', "default_sysctls", (("net.a", "1"),)),
        ('default_sysctls = ["net.a=1", "kernel.msgmax=5"]', "sysctls", (("kernel.msgmax", "5"),)),
        ('seccomp_profile = "unconfined"', "security", "unconfined"),
        ("unknown_key = 5", "init", False),
    ],
)
def test_a_key_sets_what_its_flag_sets(line: str, field: str, value: Any, tmp_path: Path) -> None:
    found = getattr(options(f"[containers]\n{line}\n", tmp_path), field)
    if field == "network":
        found = found.mode
    elif field == "security":
        found = found.seccomp
    assert found == value


def test_the_engines_keys(tmp_path: Path) -> None:
    text = '[engine]\nstop_timeout = 3\ndetach_keys = "ctrl-a"\npull_policy = "never"\ncgroup_manager = "cgroupfs"\n'
    found = options(text, tmp_path)
    assert (found.stop_timeout, found.detach_keys, found.pull) == (3, "ctrl-a", "never")
    assert found.cgroup_manager == "cgroupfs"


def test_a_flag_is_stronger(tmp_path: Path) -> None:
    text = '[containers]\ninit = true\nipcns = "host"\nvolumes = ["/a:/x", "/a:/y"]\ndefault_ulimits = ["core=1"]\n'
    found = options(text, tmp_path, "--init=false", "--ipc=none", "-v", "/b:/x", "--ulimit", "core=2")
    assert not found.init
    assert found.ipc == "none"
    assert [(v.source, v.target) for v in found.volumes] == [("/a", "/y"), ("/b", "/x")]
    assert found.ulimits == (UlimitRequest("core", 2, 2),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[containers\n", "Expected"),
        ("containers = 1\n", "containers is not a table"),
        ("[containers]\npids_limit = 'x'\n", "pids_limit is not a number"),
        ("[containers]\nenv = ['x']\n", "env: x is not NAME=VALUE"),
        ("[containers]\nvolumes = [1]\n", "volumes has a value of another type"),
    ],
)
def test_a_broken_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        options(text, tmp_path)
    assert str(tmp_path / "x.conf") in caught.value.message


def test_what_distributions_write_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(
        "[containers]\n"
        'default_capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP",\n'
        '  "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"]\n'
        'default_sysctls = ["net.ipv4.ping_group_range=0 0"]\n[engine]\n[network]\n'
    )
    assert defaults_of([str(tmp_path / "x")]) == {}


def test_the_later_file_wins_and_the_cache_is_the_files(home: Path) -> None:
    environ = {"HOME": str(home)}
    run = home / "run"
    run.mkdir()
    assert conf.read(environ, lambda: str(run)) == {}
    (home / "system.conf").write_text('[containers]\ntz = "UTC"\numask = "0027"\n')
    user = home / ".config/containers/containers.conf"
    user.write_text('[containers]\ntz = "local"\n')
    (home / ".config/containers/containers.conf.d/5.conf").write_text("[containers]\ninit = true\n")
    expected = {"flags": {"tz": ["local"], "umask": ["0027"], "init": ["true"]}}
    assert conf.read(environ, lambda: str(run)) == expected
    cache = run / conf.CACHE
    kept = cache.read_text()
    cache.write_text(kept.replace("local", "other"))
    assert conf.read(environ, lambda: str(run))["flags"]["tz"] == ["other"]  # it is the cache that was read
    user.write_text('[containers]\ntz = "Europe/Berlin"\n')
    assert conf.read(environ, lambda: str(run))["flags"]["tz"] == ["Europe/Berlin"]
    cache.write_text("{")
    assert conf.read(environ, lambda: str(run))["flags"]["tz"] == ["Europe/Berlin"]


def test_one_file_instead_of_all(home: Path) -> None:
    (home / "system.conf").write_text("[containers]\ninit = true\n")
    (home / "only.conf").write_text("[containers]\nno_hosts = true\n")
    environ = {"HOME": str(home), "CONTAINERS_CONF": str(home / "only.conf")}
    assert conf.read(environ, lambda: "/nowhere") == {"flags": {"no-hosts": ["true"]}}
    assert [os.path.basename(path) for path, _, _ in conf.files({"HOME": str(home)})] == ["system.conf"]


PLAIN = """# a comment
[containers]
a = "x" # why
b='y#z'
n = -5
yes = true
empty = []
list = [ # begins
  "one", 'two', # here
  "three",
]
[engine.runtimes]
r = ["/a", "/b"]
"""


def test_the_plain_part_of_toml_is_what_tomllib_reads() -> None:
    import tomllib

    whole = tomllib.loads(PLAIN)
    found = simple(PLAIN)
    assert found is not None
    assert found["containers"] == whole["containers"]
    assert found["engine.runtimes"] == whole["engine"]["runtimes"]


@pytest.mark.parametrize(
    "text",
    [
        'a = """x"""', 'a = "\\n"', "a = 1.5", "a = {b = 1}", "a.b = 1", "[[a]]", "a = 012", "a = [1]", 'a = ["x" "y"]',
        'a = ["x"', "a", "a = 1\na = 2", "[a]\n[a]", 'a = "x" y', "a = [,]", "a = [", "a = ['''x''']", "a =",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_tomllib(text: str) -> None:
    assert simple(text) is None
