"""rootless: a rootless, daemonless container runtime. Importing this costs nothing."""

__version__ = "0.1.0"
