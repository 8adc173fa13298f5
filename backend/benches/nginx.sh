#!/usr/bin/env bash
# Compares authenticated reads with nginx that serves the same bytes with an ETag and a check of the
# Authorization header: 304, 200 of 20 KB, 200 of 1 MB, at 64 and 512 connections, plain and over TLS.
# Both servers run all the time with two workers; runs alternate, so that both see the same machine.
#
# usage: backend/benches/nginx.sh [seconds per run] [rounds]
# Needs wrk, nginx, openssl, curl, python3. Builds the release program, unless DIRLESS_BACKEND names one. Prints requests a second (the median of
# the rounds) and the ratio to nginx.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-5}
rounds=${2:-3}
for tool in wrk nginx openssl curl python3; do
    command -v "$tool" >/dev/null || { echo "missing: $tool"; exit 1; }
done
program=${DIRLESS_BACKEND:-target/release/dirless-backend}
[ -n "${DIRLESS_BACKEND:-}" ] || cargo build --quiet --locked --release -p dirless-backend
work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
ulimit -n "$(ulimit -Hn)"

secret=bench-secret
tenant=$(printf 'a%.0s' $(seq 64))
key=age17vcec9dhw5cu4l58hx8a5pwxktryh9ej5ttqzl5gyqc2hnefkawq8pm37s
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
chmod 600 "$work/key.pem"
mkdir -p "$work/www/v1/snapshot" "$work/nginx"
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
start_ours() { # name, extra configuration
    cat > "$work/$1.toml" <<TOML
[server]
port = 0
workers = 2
max_connections = 100000
[storage]
path = "$work/$1-store"
[limits]
address_per_minute = 0
tenant_per_minute = 0
[log]
format = "text"
$2
TOML
    DIRLESS_HMAC_SECRET=$secret "$program" --config "$work/$1.toml" run 2> "$work/$1.log" &
    pids+=($!)
    for _ in $(seq 100); do grep -q 'serving on http' "$work/$1.log" && break; sleep 0.1; done
    grep -o 'https\?://[0-9.:]*' "$work/$1.log" | head -1
}
start_ours plain "" > "$work/plain.url"
start_ours tls "[tls]
certificate = \"$work/cert.pem\"
key = \"$work/key.pem\"" > "$work/tls.url"
plain=$(cat "$work/plain.url")
tls=$(cat "$work/tls.url")
for url in "$plain" "$tls"; do
    curl -skSf -o "$work/enrolled" -H "Authorization: Bearer $secret" \
        -d "{\"tenant_id\":\"$tenant\",\"age_public_key\":\"$key\"}" "$url/v1/enrollment/enroll"
    for source in small large; do
        curl -skSf -o "$work/put" -X PUT -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" \
            -H "X-Dirless-Recipient: $key" --data-binary "@$work/www/v1/snapshot/$source" "$url/v1/snapshot/$source"
    done
done

# nginx, on two free ports.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
nginx_plain=$(free_port)
nginx_tls=$(free_port)
cat > "$work/nginx.conf" <<NGINX
worker_processes 2;
worker_rlimit_nofile 100000;
daemon off;
pid $work/nginx/pid;
error_log $work/nginx/error.log;
events { worker_connections 40000; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    open_file_cache max=100 inactive=1h;
    default_type application/octet-stream;
    map_hash_bucket_size 256;
    client_body_temp_path $work/nginx; proxy_temp_path $work/nginx; fastcgi_temp_path $work/nginx;
    uwsgi_temp_path $work/nginx; scgi_temp_path $work/nginx;
    map "\$http_authorization:\$http_x_tenant_id" \$known { default 0; "Bearer $secret:$tenant" 1; }
    server {
        listen 127.0.0.1:$nginx_plain reuseport;
        listen 127.0.0.1:$nginx_tls ssl reuseport;
        ssl_certificate $work/cert.pem;
        ssl_certificate_key $work/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        root $work/www;
        etag on;
        add_header X-Dirless-Encrypted age always;
        if (\$known = 0) { return 401; }
    }
}
NGINX
nginx -c "$work/nginx.conf" -p "$work/nginx" &
pids+=($!)
for _ in $(seq 50); do curl -s -o "$work/probe" "http://127.0.0.1:$nginx_plain/" && break; sleep 0.1; done

tag_of() { # url
    curl -skI -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" "$1" | tr -d '\r' | awk 'tolower($1) == "etag:" { print $2 }'
}
run() { # url, connections, [tag]: requests a second; any answer that is not wanted is fatal
    local output
    output=$(wrk -t2 -c"$2" -d"${seconds}s" -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" \
        ${3:+-H "If-None-Match: $3"} "$1")
    if grep -q 'Non-2xx' <<<"$output"; then echo "wrong answers from $1: $output" >&2; exit 1; fi
    awk '/^Requests\/sec/ { print $2 }' <<<"$output"
}
status() { # url, [tag]
    curl -sk -o "$work/body" -w '%{http_code}' -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" \
        ${2:+-H "If-None-Match: $2"} "$1"
}
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

printf '%-34s %12s %12s %7s\n' "" dirless nginx ratio
for scheme in plain tls; do
    if [ "$scheme" = plain ]; then
        ours=$plain theirs=http://127.0.0.1:$nginx_plain
    else
        ours=$tls theirs=https://127.0.0.1:$nginx_tls
    fi
    for what in 304 small large; do
        source=$what
        [ "$what" = 304 ] && source=small
        our_url=$ours/v1/snapshot/$source their_url=$theirs/v1/snapshot/$source
        our_tag="" their_tag="" wanted=200
        if [ "$what" = 304 ]; then
            our_tag=$(tag_of "$our_url") their_tag=$(tag_of "$their_url") wanted=304
        fi
        # The same bytes and the same refusal, or the comparison means nothing.
        [ "$(status "$our_url" "$our_tag")" = "$wanted" ] && [ "$(status "$their_url" "$their_tag")" = "$wanted" ]
        [ "$(curl -sk -o "$work/body" -w '%{http_code}' "$their_url")" = 401 ]
        [ "$(curl -sk -o "$work/body" -w '%{http_code}' "$our_url")" = 401 ]
        for connections in 64 512; do
            : > "$work/ours"; : > "$work/theirs"
            for _ in $(seq "$rounds"); do
                run "$our_url" "$connections" "$our_tag" >> "$work/ours"
                run "$their_url" "$connections" "$their_tag" >> "$work/theirs"
            done
            our=$(median < "$work/ours") their=$(median < "$work/theirs")
            printf '%-34s %12s %12s %7s\n' "$scheme, $what, $connections connections" "$our" "$their" \
                "$(awk "BEGIN { if ($their > 0) printf \"%.2f\", $our / $their; else print \"n/a\" }")"
        done
    done
done
