#!/bin/sh
# Starts @PROGRAM@: finds the environment that this file is installed in and runs its interpreter with -IS.
# A shell, because pip rewrites the first line of Python scripts and drops its flags, its own wrapper costs as much as
# the interpreter, and a venv may be moved; dash takes as long as a C program would. No command is started before exec.
program=@PROGRAM@ python=@PYTHON@
self=$0
case $self in */*) ;; *) self=$(command -v -- "$self") ;; esac
[ ! -L "$self" ] || self=$(readlink -f -- "$self")
case $self in /*) ;; *) self=$PWD/$self ;; esac
here=${self%/*}
case $here in */. | */..) here=$(cd "$here" && pwd -P) ;; esac
prefix=${here%/*}
source=
for site in "$prefix/lib/$python/site-packages" "$prefix/lib64/$python/site-packages" \
    "$prefix/lib/$python/dist-packages" "$prefix/lib/python3/dist-packages"; do
    if [ -f "$site/rootless/start.py" ]; then
        source=$site option=
        break
    elif [ -f "$site/_rootless.pth" ]; then # an editable install: the file holds the path of the source tree
        read -r source <"$site/_rootless.pth" || [ -n "$source" ] || continue
        option=--site=$site
        break
    fi
done
if [ -z "$source" ]; then
    echo "$program: the package rootless is not installed in $prefix" >&2
    exit 125
fi
if [ -x "$here/$python" ]; then
    interpreter=$here/$python
elif [ -x "@BASE@" ]; then
    interpreter=@BASE@
elif ! interpreter=$(command -v "$python"); then
    echo "$program: $python not found: install rootless again with an interpreter of this machine" >&2
    exit 125
fi
exec "$interpreter" -IS "$source/rootless/start.py" ${option:+"$option"} "$program" "$@"
