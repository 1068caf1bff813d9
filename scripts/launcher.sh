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
prefix=${here%/*}
for site in "$prefix/lib/$python/site-packages" "$prefix/lib64/$python/site-packages" \
    "$prefix/lib/$python/dist-packages" "$prefix/lib/python3/dist-packages"; do
    if [ -f "$site/rootless/start.py" ]; then
        source=$site option=
    elif [ -f "$site/_rootless.pth" ]; then # an editable install
        read -r source <"$site/_rootless.pth" || [ -n "$source" ] || continue
        [ -f "$source/rootless/start.py" ] || continue
        option=--site=$site
    else
        continue
    fi
    if [ -x "$here/$python" ]; then
        interpreter=$here/$python
    elif [ -x "@BASE@" ]; then
        interpreter=@BASE@
    else
        interpreter=$(command -v "$python") || {
            echo "$program: $python not found: reinstall rootless with an interpreter of this machine" >&2
            exit 125
        }
    fi
    exec "$interpreter" -IS "$source/rootless/start.py" ${option:+"$option"} "$program" "$@"
done
echo "$program: the package rootless is not installed in $prefix" >&2
exit 125
