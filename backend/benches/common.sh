# What the comparisons with nginx share: a folder that goes away with everything started in it, servers
# of ours with a tenant, nginx with the same check of bearer and tenant, the median.
#
# shellcheck shell=bash
# Sourced with the tools that are needed as arguments. The caller sets seconds and rounds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for tool in "$@"; do
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

# start_ours NAME MORE: a server with a store and a port of its own, MORE in its configuration, and
# the tenant enrolled. Sets url.
start_ours() {
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
    url=$(grep -o 'https\?://[0-9.:]*' "$work/$1.log" | head -1)
    curl -skSf -o "$work/enrolled" -H "Authorization: Bearer $secret" \
        -d "{\"tenant_id\":\"$tenant\",\"age_public_key\":\"$key\"}" "$url/v1/enrollment/enroll"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# start_nginx PORT HTTP SERVER: two workers; HTTP goes into the http block, SERVER into the one server,
# which listens on PORT and answers 401 to whoever lacks bearer or tenant.
start_nginx() {
    mkdir -p "$work/nginx"
    cat > "$work/nginx.conf" <<NGINX
worker_processes 2;
worker_rlimit_nofile 100000;
daemon off;
pid $work/nginx/pid;
error_log $work/nginx/error.log;
events { worker_connections 40000; }
http {
    access_log off;
    keepalive_requests 1000000000;
    map_hash_bucket_size 256;
    client_body_temp_path $work/nginx; proxy_temp_path $work/nginx; fastcgi_temp_path $work/nginx;
    uwsgi_temp_path $work/nginx; scgi_temp_path $work/nginx;
    map "\$http_authorization:\$http_x_tenant_id" \$known { default 0; "Bearer $secret:$tenant" 1; }
    $2
    server {
        listen 127.0.0.1:$1 reuseport;
        if (\$known = 0) { return 401; }
        $3
    }
}
NGINX
    nginx -c "$work/nginx.conf" -p "$work/nginx" &
    pids+=($!)
    for _ in $(seq 50); do curl -s -o "$work/probe" "http://127.0.0.1:$1/" && break; sleep 0.1; done
}

# load URL CONNECTIONS ARGUMENTS...: requests a second by wrk, which is given the arguments; any answer that
# is not wanted is fatal.
load() {
    local output to=$1 connections=$2
    shift 2
    output=$(wrk -t2 -c"$connections" -d"${seconds}s" "$@")
    if grep -q 'Non-2xx' <<<"$output"; then echo "wrong answers from $to: $output" >&2; exit 1; fi
    awk '/^Requests\/sec/ { print $2 }' <<<"$output"
}

median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

# compare LABEL RUN OURS THEIRS...: rounds of `RUN OURS ...` and `RUN THEIRS ...` in turns, so that both
# see the same machine; prints the medians and their ratio.
compare() {
    local label=$1 run=$2 ours=$3 theirs=$4
    shift 4
    : > "$work/ours"; : > "$work/theirs"
    for _ in $(seq "$rounds"); do
        "$run" "$ours" "$@" >> "$work/ours"
        "$run" "$theirs" "$@" >> "$work/theirs"
    done
    local our their
    our=$(median < "$work/ours") their=$(median < "$work/theirs")
    printf '%-34s %12s %12s %7s\n' "$label" "$our" "$their" \
        "$(awk "BEGIN { if ($their > 0) printf \"%.2f\", $our / $their; else print \"n/a\" }")"
}
