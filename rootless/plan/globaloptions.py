"""What may stand before the verb. Apart from the options of `run`, because every command reads it."""

from __future__ import annotations

from rootless.spec.record import record


@record
class GlobalOptions:
    """The flags that may stand before the verb; empty means: not given."""

    root: str = ""
    runroot: str = ""
    tmpdir: str = ""
    log_level: str = "warn"
    storage_driver: str = ""
    storage_opts: tuple[str, ...] = ()
    cgroup_manager: str = ""
