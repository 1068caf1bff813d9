"""What a supervisor does to itself once it stays: subreaper and name (extra `prctl`: python-prctl).

It stays dumpable: later commands join the user namespace through its /proc/PID/ns/user.

Source: prctl(2) PR_SET_CHILD_SUBREAPER, PR_SET_MM
"""

from __future__ import annotations


def shape_supervisor(container_id: str) -> None:
    """Become the reaper of what the container leaves behind, and show who we are in `ps`."""
    title = f"rootless:[sup] {container_id[:12]}"
    try:
        import prctl
    except ImportError:
        from rootless.kernel.process import set_name, set_subreaper

        set_subreaper()
        set_name(title)
        return
    prctl.set_child_subreaper(1)
    prctl.set_name(title)
    prctl.set_proctitle(title)
