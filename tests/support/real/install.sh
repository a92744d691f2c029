#!/usr/bin/env bash
# Makes prometheus, promtool, prometheus-alertmanager, amtool, prometheus-node-exporter, chromium, openssl, SQLite's shell, a C compiler, liteque and axe
# available to the tests. Called by `make setup`.
#
# On PATH or already unpacked: nothing to do. As root with apt: installed, without leaving Debian's services running.
# Without root: the packages are downloaded and unpacked into ./.real (binaries in .real/usr/bin), nothing else is touched;
# chromium and the compiler need their libraries installed, so they are had only by root or from PATH.
# Says in one line each what was found where. What is missing is named; that is an error only when the real components
# are required (CI=true or QK_REQUIRE_REAL=1), else the tests that need them are visibly skipped.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
real=${QK_REAL_DIR:-$root/.real}
programs=(prometheus promtool prometheus-alertmanager amtool prometheus-node-exporter openssl sqlite3 cc chromium)
services=(prometheus prometheus-alertmanager prometheus-node-exporter)
packages=("${services[@]}" openssl sqlite3 gcc libc6-dev chromium fonts-dejavu-core)

say() { printf 'real parts: %s\n' "$*"; }

place_of() {
  command -v "$1" 2>/dev/null && return
  [[ -x $real/usr/bin/$1 ]] && printf '%s\n' "$real/usr/bin/$1"
}

missing() {
  local program
  for program in "${programs[@]}"; do
    place_of "$program" >/dev/null || printf '%s\n' "$program"
  done
}

# Debian starts services on installation; policy-rc.d is its documented way to say no (invoke-rc.d(8)).
install_as_root() {
  local policy=/usr/sbin/policy-rc.d ours=no
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    ours=yes
  fi
  local result=0
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } || result=$?
  [[ $ours == yes ]] && rm -f "$policy"
  # Installed is not wanted at the next boot: only the binaries are needed here.
  if [[ $result == 0 && -d /run/systemd/system ]]; then
    systemctl disable --quiet --now "${services[@]}" || say "could not disable Debian's services; do it with systemctl"
  fi
  return "$result"
}

# apt works without root when its state and cache lie in a folder of ours. The binaries need the C library only
# (`ldd`), so the packages' other dependencies (Debian's copies of JavaScript for the web page) stay away.
unpack_beside() {
  local apt="$real/apt" package
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  local options=(-qq -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt" -o Debug::NoLocking=1 -o APT::Sandbox::User=)
  # `set -e` does not hold in a function whose result is asked for: each step says what depends on it.
  local result=0
  apt-get "${options[@]}" update &&
    (cd "$apt/archives" && apt-get "${options[@]}" download "${services[@]}" sqlite3) &&
    for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$real" || result=$?; done || result=$?
  rm -rf "$apt"
  return "$result"
}

provide() {
  if ! command -v apt-get >/dev/null; then
    say "no apt-get here; put ${programs[*]} on PATH yourself"
    return 1
  elif [[ $(id -u) == 0 && ${QK_REAL_WITHOUT_ROOT:-} != 1 ]]; then
    install_as_root
  else
    unpack_beside
  fi
}

version_of() { [[ $1 == openssl ]] && printf 'version\n' || printf -- '--version\n'; }

# What was unpacked without its dependencies must be seen to run.
report() {
  local program place bad=0
  for program in "${programs[@]}"; do
    if ! place=$(place_of "$program"); then
      say "$program is MISSING"
      bad=1
    elif ! "$place" "$(version_of "$program")" >/dev/null 2>&1; then
      say "$program at $place does not run: $("$place" "$(version_of "$program")" 2>&1 | head -n 1)"
      bad=1
    else
      say "$program: $place ($("$place" "$(version_of "$program")" 2>&1 | grep -Eom1 '[0-9]+(\.[0-9]+)+' | head -n 1))"
    fi
  done
  return "$bad"
}

# A package of npm with a folder of its own beside this script, at the versions of its lock file.
provide_npm() {
  local name=$1 package=$2 from="$root/tests/support/real/$1" to="$real/$1"
  if ! command -v npm >/dev/null; then
    say "$name is MISSING: no npm here; install Node.js 20"
    return 1
  fi
  mkdir -p "$to" && cp "$from/package.json" "$from/package-lock.json" "$to/" || return 1
  if ! cmp -s "$to/package-lock.json" "$to/.installed" || [[ ! -d $to/node_modules/$package ]]; then
    (cd "$to" && npm ci --no-fund --no-audit --loglevel=error >&2) && cp "$to/package-lock.json" "$to/.installed" || return 1
  fi
}

# The queue library liteque; better-sqlite3 is compiled when no binary fits.
provide_liteque() {
  local to="$real/liteque"
  provide_npm liteque liteque || return 1
  if (cd "$to" && node -e 'new (require("better-sqlite3"))(":memory:")') 2>/dev/null; then
    say "liteque: $to/node_modules/liteque"
  else
    say "liteque at $to does not run: better-sqlite3 has no binary for this Node.js"
    return 1
  fi
}

# What the page is checked with for accessibility.
provide_axe() {
  provide_npm axe axe-core && say "axe: $real/axe/node_modules/axe-core"
}

npm_parts=there
provide_liteque || npm_parts=missing
provide_axe || npm_parts=missing

if [[ -n $(missing) ]]; then
  provide || say "they could not be provided (see above)"
fi
if report && [[ $npm_parts == there ]]; then
  exit 0
elif [[ ${CI:-} == true || ${QK_REQUIRE_REAL:-} == 1 ]]; then
  say "required here (CI=true or QK_REQUIRE_REAL=1)"
  exit 1
else
  say "tests that need the missing ones will be skipped"
fi
