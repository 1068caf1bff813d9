#!/usr/bin/env python3
"""Write rootless/stage/wire.h from rootless/plan/wire.py; with --check only say whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rootless.plan.wire import header  # noqa: E402


def main() -> int:
    target = ROOT / "rootless" / "stage" / "wire.h"
    current = target.read_text() if target.exists() else ""
    if current == header():
        return 0
    if "--check" in sys.argv[1:]:
        print("rootless/stage/wire.h is not what rootless/plan/wire.py says: run scripts/gen_wire.py", file=sys.stderr)
        return 1
    target.write_text(header())
    return 0


if __name__ == "__main__":
    sys.exit(main())
