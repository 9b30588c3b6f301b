# Shared by the scripts beside it: where the checkout and its cache are. To be sourced by bash.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${LAYERHOLD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/layerhold}
clients=$root/crates/layerhold-server/tests/clients
mkdir -p "$cache"

# A virtual environment per content of the pins, so that two checkouts never rewrite each other's.
venv=$cache/venv-$(sha256sum "$clients/requirements.txt" | cut -c 1-12)

say() { printf '%s\n' "$*" >&2; }

# The commands that install Rust tools from source; their versions stand here only.
cargo_deny=0.20.2
cargo_fuzz=0.13.2
