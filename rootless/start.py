"""The script that the launchers run (`python -IS start.py [--site=DIR] PROGRAM ARGS`). Scripts are compiled at every start: keep it short."""

import sys

sys.path.append(__file__[: -len("/rootless/start.py")])
from rootless.launcher import start  # noqa: E402

start()
