#!/usr/bin/env python3
"""Write docs/man from the tables of the command line; `--check` only says whether they are current.

scripts/gen_man.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rootless.cli.manpage import command_page, file_name, program_page  # noqa: E402
from rootless.cli.tables import every_command  # noqa: E402
from rootless.plan.options import GlobalOptions  # noqa: E402

PLACE = ROOT / "docs/man"


def pages() -> dict[str, str]:
    """Return all pages by their file names."""
    commands = every_command(GlobalOptions())
    made = {file_name(name): command_page(command) for name, command in commands.items()}
    made["rootless.1"] = program_page(sorted((name, command.summary) for name, command in commands.items()))
    return made


def main() -> int:
    made = pages()
    there = {path.name: path.read_text() for path in PLACE.glob("*.1")} if PLACE.is_dir() else {}
    wrong = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
    if "--check" in sys.argv[1:]:
        if wrong:
            print(f"docs/man is not current, run scripts/gen_man.py: {', '.join(wrong)}", file=sys.stderr)
        return bool(wrong)
    PLACE.mkdir(exist_ok=True)
    for name in wrong:
        if name in made:
            (PLACE / name).write_text(made[name])
        else:
            (PLACE / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
