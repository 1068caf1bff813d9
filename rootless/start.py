"""What the launchers run: `python -IS start.py [--site=DIR] PROGRAM ARGS`. Never cached as a script: keep it short."""

import sys

sys.path.append(__file__[: -len("/rootless/start.py")])
from rootless.launcher import start

start()
