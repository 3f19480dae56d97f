# Sourced by the other scripts: the environment of this repository, unless one is active already.
if [[ -z ${VIRTUAL_ENV:-} && -f $(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate ]]; then
  source "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate"
fi
