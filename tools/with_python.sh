#!/bin/sh
# with_python.sh ARGUMENTS: run the newest Python that is supported and works, with these arguments.
# PYTHON=... names another one. Whatever is missing is said in one line.
probe='
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(4)
'
supported="3.11, 3.12 or 3.13"
unusable=

fail() {
    echo "error: $1" >&2
    exit 1
}

for python in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    "$python" -c "$probe" 2>/dev/null </dev/null
    case $? in
    0) exec "$python" "$@" ;;
    3) [ -z "$PYTHON" ] || fail "$PYTHON is not Python $supported: name one that is with PYTHON=..." ;;
    4) unusable=$python ;;
    *) [ -z "$PYTHON" ] || fail "$PYTHON does not run: name Python $supported with PYTHON=..." ;;
    esac
done
if [ -n "$unusable" ]; then
    version=$("$unusable" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$unusable lacks the modules venv and ensurepip: install them (Debian, Ubuntu: apt install python$version-venv)"
fi
fail "no Python $supported was found: install one (Debian, Ubuntu: apt install python3 python3-venv python3-dev; \
macOS: brew install python@3.13), or name it with PYTHON=..."
