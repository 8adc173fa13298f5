#!/usr/bin/env bash
# NSS module: release build under 150 KB, no library but libc, no symbol but the NSS entry points
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked --quiet -p dirless-nss
module=${CARGO_TARGET_DIR:-target}/release/libnss_dirless.so
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip -s -o "$stripped" "$module"
size=$(stat -c %s "$stripped")
echo "libnss_dirless.so.2: $size bytes"
((size < 150000))
needed=$(objdump -p "$module" | sed -n 's/^ *NEEDED *//p' | sort | tr '\n' ' ')
for library in $needed; do
    case $library in
        libc.so.6 | libgcc_s.so.1 | ld-linux-*) ;;
        *) echo "it needs $library" >&2; exit 1 ;;
    esac
done
objdump -p "$module" | grep -q 'SONAME *libnss_dirless.so.2'
strangers=$(nm -D --defined-only "$module" | awk '{print $3}' | grep -v '^_nss_dirless_' || true)
if [[ $strangers ]]; then
    echo "it exports $strangers" >&2
    exit 1
fi
