#!/bin/sh
# Make or complete .venv: `scripts/make_environment.sh run` installs what Mendel needs to run, `dev` also every tool.
# PYTHON names the interpreter; otherwise the first of python3, python3.13, python3.12 and python3.11 that is new enough.
set -eu
wanted=$1
inside=.venv/bin/python

suits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo 'not found'; }
fail() { echo "$1" >&2; exit 1; }

choose() {
  for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if suits "$python"; then return; fi
  done
  [ -z "${PYTHON:-}" ] \
    || fail "Mendel needs Python 3.11 or newer; $PYTHON is $(version "$PYTHON"). Name another one: make PYTHON=/path/to/python3"
  fail "Mendel needs Python 3.11 or newer; python3 is $(version python3), and there is no python3.11, python3.12 or \
python3.13. Install one of them, or name it: make PYTHON=/path/to/python3"
}

# uv is quick; where it cannot reach an index that pip is configured for, pip installs the same files.
install() { .venv/bin/uv pip install --quiet --python "$inside" --require-hashes "$@" || with_pip "$@"; }
with_pip() {
  "$inside" -m pip --version >/dev/null 2>&1 || "$inside" -m ensurepip >/dev/null
  "$inside" -m pip install --quiet --disable-pip-version-check --require-hashes "$@"
}

if ! [ -x "$inside" ] || ! suits "$inside"; then
  choose
  "$python" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "$python has no modules venv and ensurepip. Install them (Debian, Ubuntu: apt install python3-venv), then run make again."
  echo "Making .venv with Python $(version "$python")"
  "$python" -m venv --clear --without-pip .venv
fi
if ! [ -x .venv/bin/uv ]; then
  echo "Installing uv"
  # The interpreter's own pip, if it has one; a pip in .venv would take seconds.
  "${python:-$inside}" -m pip --python "$inside" install --quiet --disable-pip-version-check --require-hashes \
    -r requirements/uv.txt 2>/dev/null || with_pip -r requirements/uv.txt
fi
if [ "$wanted" = run ]; then
  echo "Installing what Mendel needs to run"
  install -r requirements/hub.txt -r requirements/wheel.txt
else
  echo "Installing what Mendel and its tests need"
  install -r requirements/dev.txt
fi
.venv/bin/uv pip install --quiet --python "$inside" --no-deps --no-build-isolation -e .

# Byte-code is made once: uv leaves none. Before a run, only where Python does not keep what it compiles on the way;
# for development in any case, because each of the many processes that tests start would compile every module anew.
if [ "$wanted" = dev ] || [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then
  echo "Compiling"
  "$inside" -m compileall -qq -j 0 -x /tests/ .venv/lib src
fi
