#!/usr/bin/env bash
# systemd units: known to systemd, and as closed as they claim
set -euo pipefail
cd "$(dirname "$0")/../systemd"
# Highest exposure (0 is a sealed box, 10 anything goes). The agent and the syncer are root without
# capabilities; each unit says why.
declare -A limit=([dirless-backend]=12 [dirless-syncer]=17 [dirless-agent]=17 [dirless-ldapd]=17)
# verify wants the programs that a unit names; an empty one stands for each.
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/usr/bin" "$root/etc/systemd/system"
for unit in *.service; do
    name=${unit%.service}
    install -m 0755 /dev/null "$root/usr/bin/$name"
    sed "s|^ExecStart=/usr/bin/|ExecStart=$root/usr/bin/|" "$unit" >"$root/$unit"
    complaints=$(systemd-analyze verify --man=no "$root/$unit" 2>&1 | grep -F "$name" || true)
    if [[ $complaints ]]; then
        echo "$complaints" >&2
        exit 1
    fi
    systemd-analyze security --offline=true --no-pager --threshold="${limit[$name]}" "$root/$unit" | tail -n1
    grep -q '^RestartPreventExitStatus=78$' "$unit"
    grep -q '^WatchdogSec=' "$unit"
done
