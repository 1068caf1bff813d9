"""What the launchers run: `python -IS start.py [--site=DIR] PROGRAM ARGS`. Never cached as a script: keep it short."""

import sys

# First on the path while this one import is made, and last from then on: the directories before it are long lists.
sys.path.insert(0, __file__[: -len("/rootless/start.py")])
from rootless.launcher import start

sys.path.append(sys.path.pop(0))
start()
