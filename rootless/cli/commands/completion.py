"""`rootless completion`: print the script that makes a shell complete our command line.

The scripts only ask `rootless __complete` (cli/commands/complete.py), which reads the tables that help is printed from.

Source: podman-completion(1) of podman 4.3; bash(1) "Programmable Completion", zshcompsys(1), fish's complete(1)
"""

from __future__ import annotations

import sys

from rootless.cli.parser import Command, parse
from rootless.errors import RootlessError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="completion",
    summary="Generate shell completion scripts",
    usage="{bash|zsh|fish}",
    description=(
        "Generate shell autocompletions.\n"
        "Valid arguments are bash, zsh, and fish.\n\n"
        "  bash:  source <(rootless completion bash)\n"
        "         or rootless completion bash -f ~/.local/share/bash-completion/completions/rootless\n"
        "  zsh:   rootless completion zsh -f \"${fpath[1]}/_rootless\"\n"
        "  fish:  rootless completion fish -f ~/.config/fish/completions/rootless.fish"
    ),
    flags=(
        ("file", "f", "string", "", "", "Output the completion to file rather than stdout.", ""),
        ("no-desc", "", "bool", "", "", "Don't include descriptions in the completion output.", ""),
    ),
    examples=("completion bash", "completion zsh -f _rootless", "completion fish --no-desc"),
    min_args=1,
    max_args=1,
)  # fmt: skip

BASH = r"""# bash completion for rootless
__rootless_complete() {
    local line=${COMP_LINE:0:COMP_POINT} out directive current prefix candidate
    local -a words found
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]} - 1]}
    out=$("${words[0]}" __complete --no-desc "${words[@]:1}" 2>/dev/null) || return
    directive=${out##*:}
    out=${out%:*}
    # What stands before the last = or : is a word of its own to readline.
    prefix=${current%"${current##*[=:]}"}
    [[ $COMP_WORDBREAKS == *[=:]* ]] || prefix=
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -z $candidate ]] || COMPREPLY+=("${candidate#"$prefix"}")
    done <<<"$out"
    if ((directive & 2)); then
        compopt -o nospace 2>/dev/null
    fi
    if ((!(directive & 4) && !${#COMPREPLY[@]})); then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "${current#"$prefix"}")
    fi
}
complete -F __rootless_complete rootless
"""

ZSH = r"""#compdef rootless
_rootless() {
    local -a lines candidates
    local directive line value
    lines=("${(@f)$(${words[1]} __complete @NODESC@"${(@)words[2,CURRENT]}" 2>/dev/null)}")
    directive=${${lines[-1]}#:}
    for line in "${(@)lines[1,-2]}"; do
        value=${${line%%$'\t'*}//:/\\:}
        if [[ $line == *$'\t'* ]]; then
            candidates+=("$value:${line#*$'\t'}")
        else
            candidates+=("$value")
        fi
    done
    if ((${#candidates})); then
        if ((directive & 2)); then
            _describe 'completions' candidates -S ''
        else
            _describe 'completions' candidates
        fi
    elif ((!(directive & 4))); then
        _files
    fi
}
if [ "$funcstack[1]" = "_rootless" ]; then
    _rootless
else
    compdef _rootless rootless
fi
"""

FISH = r"""# fish completion for rootless
function __rootless_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l lines ($words[1] __complete @NODESC@$words[2..-1] 2>/dev/null)
    set -l directive (string replace ':' '' -- $lines[-1])
    set -e lines[-1]
    if test (count $lines) -gt 0
        printf '%s\n' $lines
    else if test (math "$directive % 8") -lt 4
        __fish_complete_path (commandline -ct)
    end
end
complete -c rootless -e
complete -c rootless -f -a '(__rootless_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the script, or write it to --file."""
    parsed, _ = parse(COMMAND, argv, options)
    shell = parsed.args[0]
    if shell not in SCRIPTS:
        raise UsageError(f'invalid argument "{shell}" for "rootless completion"', hint="use bash, zsh or fish")
    text = SCRIPTS[shell].replace("@NODESC@", "--no-desc " if parsed.flag("no-desc") else "")
    path = parsed.text("file")
    if not path:
        sys.stdout.write(text)
        return 0
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RootlessError(f"open {path}: {(error.strerror or '').lower()}") from error
    return 0
