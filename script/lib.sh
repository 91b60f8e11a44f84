# shellcheck shell=bash
# shellcheck disable=SC2034  # its readers are other files
# What script/bootstrap, script/build-edge and script/server share. Source script/env.sh first.

WASM_TARGET=wasm32-unknown-unknown
TOOLS=$INFER_ROUTER_CACHE/tools

warn() { printf '%s\n' "$*" >&2; }

die() {
  warn "error: $1"
  shift
  local hint
  for hint in "$@"; do warn "  $hint"; done
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# limited SECONDS COMMAND...: macOS has no `timeout`; there the command runs unlimited.
limited() {
  local seconds=$1
  shift
  if have timeout; then timeout "$seconds" "$@"; else "$@"; fi
}

SHA256=(sha256sum)
have sha256sum || SHA256=(shasum -a 256)

# lock NAME: held until the script ends, by one script a cache.
lock() {
  local path=$INFER_ROUTER_CACHE/locks/$1
  mkdir -p "$INFER_ROUTER_CACHE/locks"
  if have flock; then
    exec 9>"$path.lock"
    flock -n 9 || { warn "waiting for another script/$1 ..." && flock 9; }
  else
    lock_by_folder "$path.d"
  fi
}

lock_by_folder() {
  local path=$1 owner
  until mkdir "$path" 2>/dev/null; do
    owner=$(cat "$path/pid" 2>/dev/null || true)
    # A killed script leaves its folder behind.
    if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
      rm -rf "$path"
    else
      sleep 1
    fi
  done
  echo $$ >"$path/pid"
  # shellcheck disable=SC2064  # the path of now, not of then
  trap "rm -rf '$path'" EXIT
}

# claim_target FOLDER: before cargo builds into a target folder that several clones share. Cargo tells a clone's crates
# from another's by nothing but their files' times, and takes the other clone's newer build for its own.
claim_target() {
  local stamp=$1/.last-clone
  mkdir -p "$1"
  [ "$(cat "$stamp" 2>/dev/null)" != "$INFER_ROUTER_ROOT" ] || return 0
  local folder
  # An image has only the folders that its build reads.
  for folder in shared edge lab worker-native docs; do
    [ ! -d "$INFER_ROUTER_ROOT/$folder" ] ||
      find "$INFER_ROUTER_ROOT/$folder" -path '*/edge/build*' -prune -o -type f -exec touch {} +
  done
  printf '%s\n' "$INFER_ROUTER_ROOT" >"$stamp"
}

# The version of a package in Cargo.lock; nothing where it is not in there.
locked_version() {
  [ -f "$INFER_ROUTER_ROOT/Cargo.lock" ] || return 0
  awk -v name="\"$1\"" '/^name = / { found = ($3 == name) }
    /^version = / && found { gsub(/"/, "", $3); print $3; exit }' "$INFER_ROUTER_ROOT/Cargo.lock"
}

# --- the toolchain that builds wasm -----------------------------------------------------------
# worker-build --panic-unwind compiles std itself, so a toolchain counts when it brings std's source.

DEBIAN_RUST=(rustc-web cargo-web rust-web-src)

pinned_rust() { sed -n 's/^channel = "\(.*\)"/\1/p' "$INFER_ROUTER_ROOT/rust-toolchain.toml"; }

# The sysroot of the pinned toolchain, where rustup has it.
rustup_sysroot() {
  have rustup || return 1
  RUSTUP_AUTO_INSTALL=0 rustup run "$(pinned_rust)" rustc --print sysroot 2>/dev/null
}

rustup_wasm_ready() {
  local sysroot
  sysroot=$(rustup_sysroot) || return 1
  [ -d "$sysroot/lib/rustlib/$WASM_TARGET/lib" ] && [ -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]
}

debian_wasm_ready() {
  [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library ] &&
    debian_wasm_linker >/dev/null
}

# Objects of a new rustc need a new lld: rustup's own fits, Debian's plain `lld` need not.
debian_wasm_linker() {
  local candidate sysroot
  sysroot=$(rustup_sysroot || true)
  for candidate in "$sysroot"/lib/rustlib/*/bin/rust-lld /usr/bin/wasm-ld-19 /usr/bin/wasm-ld; do
    [ -x "$candidate" ] && echo "$candidate" && return 0
  done
  return 1
}

# Prints `rustup` or `debian`; fails where neither can build wasm. INFER_ROUTER_WASM demands one of them.
wasm_toolchain() {
  local kind
  for kind in ${INFER_ROUTER_WASM:-rustup debian}; do
    "${kind}_wasm_ready" && echo "$kind" && return 0
  done
  return 1
}
