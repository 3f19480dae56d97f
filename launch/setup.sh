# Sourced by the other scripts: makes .venv with this project, once, and activates it.
#   source launch/setup.sh user     # what a user needs
#   source launch/setup.sh dev      # with the tools of the developers
# The word is needed: without one, bash would hand it the arguments of the script that sources it.
if [[ ! -f .venv/bin/activate ]]; then
  python=$(command -v python3.11 || command -v python3)
  "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' ||
    { echo "Python 3.11 or 3.12 is needed; $python is $("$python" -V)" >&2; exit 2; }
  "$python" -m venv .venv
fi
source .venv/bin/activate
stamp=$(cksum < pyproject.toml)
extra=
[[ $1 != dev ]] || extra=dev
# What was installed with the developers' tools serves a user too.
if ! grep -qsxF "$stamp" ".venv/installed${extra:+-$extra}" .venv/installed-dev; then
  echo "installing into .venv (once; 3 GB on disk, a minute or more)"
  python -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}"
  echo "$stamp" > ".venv/installed${extra:+-$extra}"
fi
