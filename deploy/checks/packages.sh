#!/usr/bin/env bash
# Debian packages: build from the debug programs and hold what they should
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
deploy/package --debug --output "$out" >/dev/null
libraries=./usr/lib/$(uname -m)-linux-gnu
expect() {
    local package=$1 listing file
    shift
    listing=$(dpkg-deb --contents "$out/$package"_*.deb)
    for file in "$@"; do
        grep -qE "(^| )$file\$" <<<"$listing" || { echo "$package lacks $file" >&2; exit 1; }
    done
    # Every file is root's, and nothing is writable by others or set-uid.
    if grep -vE '^[-d]r[w-][-x]r-[-x]r-[-x] root/root |^-rw------- root/root ' <<<"$listing"; then exit 1; fi
}
expect dirless-backend ./usr/bin/dirless-backend ./usr/lib/systemd/system/dirless-backend.service \
    ./usr/lib/sysusers.d/dirless-backend.conf ./etc/dirless/dirless.toml ./usr/share/man/man1/dirless-backend.1.gz
expect dirless-syncer ./usr/bin/dirless-syncer ./usr/lib/systemd/system/dirless-syncer.service
expect dirless-agent ./usr/bin/dirless-agent ./usr/bin/dirless ./usr/libexec/dirless/dirless-authorized-keys \
    "$libraries/libnss_dirless.so.2" ./usr/share/bash-completion/completions/dirless ./usr/share/man/man1/dirless.1.gz
ls -l "$out" | awk 'NR > 1 {print $5, $9}'
