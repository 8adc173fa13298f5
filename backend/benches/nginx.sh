#!/usr/bin/env bash
# Compares authenticated reads with nginx that serves the same bytes with an ETag and a check of the
# Authorization header: 304, 200 of 20 KB, 200 of 1 MB, at 64 and 512 connections, plain and over TLS.
# Both servers run all the time with two workers; runs alternate, so that both see the same machine.
#
# usage: backend/benches/nginx.sh [seconds per run] [rounds] [plain|tls|all] [304|small|large|all] [sendfile on|off]
# Needs wrk, nginx, openssl, curl, python3. Builds the release program, unless DIRLESS_BACKEND names one.
# Prints requests a second (the median of the rounds) and the ratio to nginx.
seconds=${1:-5}
rounds=${2:-3}
schemes=${3:-all}
whats=${4:-all}
sendfile=${5:-on}
[ "$schemes" != all ] || schemes="plain tls"
[ "$whats" != all ] || whats="304 small large"
# shellcheck source=backend/benches/common.sh
source "$(dirname "$0")/common.sh" wrk nginx openssl curl python3

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
chmod 600 "$work/key.pem"
mkdir -p "$work/www/v1/snapshot"
# What the server takes for sealed: base64 that does not begin like JSON or gzip.
body() {
    python3 -c 'import base64, os, sys; n = int(sys.argv[1]); start = b"YWdlLWVuY3J5cHRpb24ub3JnL3Yx"
sys.stdout.buffer.write((start + base64.b64encode(os.urandom(n)))[:n])' "$1"
}
body 20480 > "$work/www/v1/snapshot/small"
body 1048576 > "$work/www/v1/snapshot/large"
chmod a+rx "$work"
chmod -R a+rX "$work/www"

# Ours: plain and TLS are two processes with a store of their own.
start_ours plain ""
plain=$url
start_ours tls "[tls]
certificate = \"$work/cert.pem\"
key = \"$work/key.pem\""
tls=$url
for url in "$plain" "$tls"; do
    for source in small large; do
        curl -skSf -o "$work/put" -X PUT -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" \
            -H "X-Dirless-Recipient: $key" --data-binary "@$work/www/v1/snapshot/$source" "$url/v1/snapshot/$source"
    done
done

nginx_plain=$(free_port)
nginx_tls=$(free_port)
start_nginx "$nginx_plain" "sendfile $sendfile; tcp_nopush on; open_file_cache max=100 inactive=1h;
    default_type application/octet-stream;" \
    "listen 127.0.0.1:$nginx_tls ssl reuseport;
        ssl_certificate $work/cert.pem; ssl_certificate_key $work/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
        root $work/www; etag on; add_header X-Dirless-Encrypted age always;"

tag_of() { # url
    curl -skI -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" "$1" | tr -d '\r' | awk 'tolower($1) == "etag:" { print $2 }'
}
status() { # url, [tag]
    curl -sk -o "$work/body" -w '%{http_code}' -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" \
        ${2:+-H "If-None-Match: $2"} "$1"
}
# Each server has a tag of its own.
run() { # url, connections
    local tag=${tags[$1]:-}
    load "$1" "$2" -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" ${tag:+-H "If-None-Match: $tag"} "$1"
}

printf '%-34s %12s %12s %7s\n' "" dirless nginx ratio
for scheme in $schemes; do
    if [ "$scheme" = plain ]; then
        ours=$plain theirs=http://127.0.0.1:$nginx_plain
    else
        ours=$tls theirs=https://127.0.0.1:$nginx_tls
    fi
    for what in $whats; do
        source=$what
        [ "$what" = 304 ] && source=small
        our_url=$ours/v1/snapshot/$source their_url=$theirs/v1/snapshot/$source wanted=200
        declare -A tags=()
        if [ "$what" = 304 ]; then
            tags=([$our_url]=$(tag_of "$our_url") [$their_url]=$(tag_of "$their_url")) wanted=304
        fi
        # The same bytes and the same refusal, or the comparison means nothing.
        for url in "$our_url" "$their_url"; do
            [ "$(status "$url" "${tags[$url]:-}")" = "$wanted" ]
            [ "$wanted" = 304 ] || cmp "$work/body" "$work/www/v1/snapshot/$source"
            [ "$(curl -sk -o "$work/body" -w '%{http_code}' "$url")" = 401 ]
        done
        for connections in 64 512; do
            compare "$scheme, $what, $connections connections" run "$our_url" "$their_url" "$connections"
        done
    done
done
