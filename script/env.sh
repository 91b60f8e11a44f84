# shellcheck shell=bash
# Says where the project's tools and caches are; bash scripts source it, from any folder.
# What the environment sets already is kept. It installs nothing: script/bootstrap does.

INFER_ROUTER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
: "${INFER_ROUTER_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/infer-router}"
: "${CARGO_TARGET_DIR:=$INFER_ROUTER_CACHE/target}"

_infer_router_platform() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) echo linux-64 so ;;
    Linux-aarch64) echo linux-arm64 so ;;
    Darwin-x86_64) echo darwin-64 dylib ;;
    Darwin-arm64) echo darwin-arm64 dylib ;;
    *) echo unknown so ;;
  esac
}

_infer_router_lock_hash() {
  local sum=(sha256sum)
  command -v sha256sum >/dev/null 2>&1 || sum=(shasum -a 256)
  "${sum[@]}" <"$INFER_ROUTER_ROOT/package-lock.json" | cut -c1-16
}

read -r _infer_router_workerd _infer_router_dylib <<<"$(_infer_router_platform)"
: "${NODE_MODULES:=$INFER_ROUTER_CACHE/tools/node/$(_infer_router_lock_hash)/node_modules}"
# The platform's own package: the `workerd` command beside it is a node script that starts this binary.
: "${WORKERD_BIN:=$NODE_MODULES/@cloudflare/workerd-$_infer_router_workerd/bin/workerd}"
: "${ORT_DYLIB_PATH:=$INFER_ROUTER_CACHE/tools/onnxruntime/libonnxruntime.$_infer_router_dylib}"
: "${TRITON_PYTHON:=$INFER_ROUTER_CACHE/tools/venv-triton/bin/python}"
: "${WEBHOOKS_PYTHON:=$INFER_ROUTER_CACHE/tools/venv-webhooks/bin/python}"
: "${REDIS_SERVER_BIN:=$(command -v redis-server || echo redis-server)}"

# The library's own switch comes too late for its first message about process and models.
: "${ORT_DISABLE_TELEMETRY:=1}"

export ORT_DISABLE_TELEMETRY
export INFER_ROUTER_ROOT INFER_ROUTER_CACHE CARGO_TARGET_DIR NODE_MODULES WORKERD_BIN ORT_DYLIB_PATH REDIS_SERVER_BIN
export TRITON_PYTHON WEBHOOKS_PYTHON
unset _infer_router_workerd _infer_router_dylib
unset -f _infer_router_platform _infer_router_lock_hash
