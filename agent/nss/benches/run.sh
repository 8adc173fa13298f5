#!/usr/bin/env bash
# NSS lookups beside glibc files, libnss-cache and SSSD's warm memory cache, on the same people, in one run.
#
#   agent/nss/benches/run.sh [USERS] [HOT] [PARTS]        (as root; defaults 100000 10000 "dirless overlay cache sss files publish")
#
# DIRLESS_BENCH_BEFORE is put before each measured command, for instance `flock /run/quiet.lock`.
#
# Works in a mount namespace over overlays: packages of the peers are installed there, and nothing of the
# machine is changed. Without a package mirror the peers are left out and said to be.
set -euo pipefail
users=${1:-100000}
hot=${2:-10000}
parts=" ${3:-dirless overlay cache sss files publish} "
before=${DIRLESS_BENCH_BEFORE:-}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)

if [ -z "${DIRLESS_BENCH_INSIDE:-}" ]; then
    cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" -p dirless-nss --lib --example generate --example overlay
    export DIRLESS_BENCH_INSIDE=$(mktemp -d)
    trap 'rm -rf "$DIRLESS_BENCH_INSIDE"' EXIT
    cc -O2 -Wall -pthread -o "$DIRLESS_BENCH_INSIDE/lookups" "$here/lookups.c" -ldl
    target=${CARGO_TARGET_DIR:-$root/target}
    cp "$target/release/libnss_dirless.so" "$DIRLESS_BENCH_INSIDE/libnss_dirless.so.2"
    cp "$target/release/examples/generate" "$target/release/examples/overlay" "$DIRLESS_BENCH_INSIDE/"
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$0" "$@"
    exit
fi

work=$DIRLESS_BENCH_INSIDE
for folder in usr etc var; do
    mkdir -p "$work/over"
    mountpoint -q "$work/over" || mount -t tmpfs tmpfs "$work/over"
    mkdir -p "$work/over/$folder/upper" "$work/over/$folder/work"
    mount -t overlay -o "lowerdir=/$folder,upperdir=$work/over/$folder/upper,workdir=$work/over/$folder/work" overlay "/$folder"
done
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
wanted() { [[ $parts == *" $1 "* ]]; }
peers=
if wanted cache || wanted sss; then
    peers=yes
fi
[ -z "$peers" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    libnss-cache sssd-common sssd-proxy libnss-sss > "$work/apt.log" 2>&1 < /dev/null || peers=

mkdir -p /var/lib/dirless/nss
"$work/generate" "$users" /var/lib/dirless/nss
data=/var/lib/dirless/nss
bytes=$(stat -c %s "$data/table")
echo "$users users, $((users / 10)) teams of 8, a private group each; random users among $hot; $(nproc) cores"
echo "table: $bytes bytes, $((bytes / users)) per user; ns per call, median of 301 batches; ! = unexpected status"
printf '%-34s %11s %11s %11s %11s %11s %8s\n' '' 'by name' miss 'by uid' group initgroups '2 threads'

row() {
    printf '%-34s' "$1"
    shift
    $before timeout 300 "$work/lookups" "$@" || echo " failed"
}

cold() {
    printf '%-34s %s us\n' "dirless: dlopen to first answer" \
        "$(for _ in $(seq 51); do "$work/lookups" "$work/libnss_dirless.so.2" dirless "$users" cold; done | sort -n | sed -n 26p)"
}

if wanted dirless || wanted overlay; then
    row "limit (bare hashed table)" limit limit "$users" "$hot"
    row "dirless" "$work/libnss_dirless.so.2" dirless "$users" "$hot"
fi
if wanted dirless; then
    row "dirless, all users in turn" "$work/libnss_dirless.so.2" dirless "$users" "$users"
    cold
fi

if wanted overlay; then
    for changed in 0 10 1000; do
        "$work/overlay" "$users" "$data" "$changed" > "$work/changed"
        row "dirless, overlay of $changed users" "$work/libnss_dirless.so.2" dirless "$users" "$hot"
        cold
        cat "$work/changed"
        "$work/generate" "$users" "$data"
    done
fi

if [ -z "$peers" ] && { wanted cache || wanted sss; }; then
    echo "libnss-cache and SSSD could not be installed here and are left out: $(tail -1 "$work/apt.log")"
fi
if [ -n "$peers" ] && wanted cache; then
    cp "$data"/passwd.cache* "$data"/group.cache* /etc/
    touch /etc/passwd.cache.ix* /etc/group.cache.ix*
    row "libnss-cache" "$(ls /usr/lib/*/libnss_cache.so.2* /lib/*/libnss_cache.so.2* 2>/dev/null | head -1)" cache "$users" "$hot"
fi
if [ -n "$peers" ] && wanted sss; then
    mkdir -p /var/lib/sss/{db,mc,pipes/private,pubconf,keytabs,secrets,gpo_cache} /var/log/sssd /etc/sssd /run/sssd
    cat > /etc/sssd/sssd.conf <<SSSD
[sssd]
services = nss
domains = bench
[nss]
memcache_size_passwd = 256
memcache_size_group = 256
memcache_size_initgroups = 256
memcache_timeout = 100000
[domain/bench]
id_provider = proxy
proxy_lib_name = dirless
auth_provider = none
access_provider = permit
SSSD
    # Where SSSD gets its people does not matter once its cache is warm; ours is the quickest source.
    cp "$work/libnss_dirless.so.2" "$(dirname "$(ls /usr/lib/*/libnss_sss.so.2 | head -1)")/"
    chmod 600 /etc/sssd/sssd.conf
    sssd -i --logger=files > "$work/sssd.log" 2>&1 &
    sssd=$!
    module=$(ls /usr/lib/*/libnss_sss.so.2 /lib/*/libnss_sss.so.2 2>/dev/null | head -1)
    for _ in $(seq 60); do
        "$work/lookups" "$module" sss "$users" cold > /dev/null 2>&1 && break
        sleep 1
    done
    # The cache outlives the process that filled it.
    timeout 600 "$work/lookups" "$module" sss "$users" "$hot" warm || true
    row "SSSD, memory cache warm" "$module" sss "$users" "$hot"
    printf '%-34s %s us\n' "SSSD: dlopen to first answer" \
        "$(for _ in $(seq 51); do "$work/lookups" "$module" sss "$users" cold; done | sort -n | sed -n 26p)"
    kill "$sssd"
    wait "$sssd" 2> /dev/null || true
fi

if wanted files; then
    cp "$data/passwd" /etc/passwd
    cp "$data/group" /etc/group
    row "glibc files" libc files "$users" 100
fi

if wanted publish; then
    spread() { "$work/lookups" "$work/libnss_dirless.so.2" dirless "$users" spread 5; }
    echo "latencies of dirless over 5 s: undisturbed; while a table a second is published; while they are published without a pause:"
    spread
    for pause in 1000 0; do
        "$work/generate" "$users" "$data" 6 "$pause" > "$work/published" &
        spread
        wait $! || true
        cat "$work/published"
    done
fi
