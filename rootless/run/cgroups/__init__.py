"""The container's cgroup: a delegated cgroup v2 directory, a scope of the user's systemd, or none."""
