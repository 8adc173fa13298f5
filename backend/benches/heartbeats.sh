#!/usr/bin/env bash
# Heartbeats a second that the server accepts, as deployed agents send them and with a report, from
# 20,000 agents over kept connections; nginx answering the same requests with a fixed text stands
# beside it for scale. The load shares the machine with both.
#
# usage: backend/benches/heartbeats.sh [seconds per run] [rounds]
# Needs wrk, nginx, curl, python3. Builds the release program, unless DIRLESS_BACKEND names one.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-5}
rounds=${2:-3}
for tool in wrk nginx curl python3; do
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
cat > "$work/ours.toml" <<TOML
[server]
port = 0
workers = 2
max_connections = 100000
[storage]
path = "$work/store"
[limits]
address_per_minute = 0
tenant_per_minute = 0
[log]
format = "text"
TOML
DIRLESS_HMAC_SECRET=$secret "$program" --config "$work/ours.toml" run 2> "$work/ours.log" &
pids+=($!)
for _ in $(seq 100); do grep -q 'serving on http' "$work/ours.log" && break; sleep 0.1; done
ours=$(grep -o 'http://[0-9.:]*' "$work/ours.log" | head -1)
curl -sSf -o "$work/enrolled" -H "Authorization: Bearer $secret" \
    -d "{\"tenant_id\":\"$tenant\",\"age_public_key\":\"$key\"}" "$ours/v1/enrollment/enroll"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$work/nginx"
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
    server {
        listen 127.0.0.1:$port reuseport;
        default_type application/json;
        if (\$known = 0) { return 401; }
        location / { return 200 '{"status":"ok"}'; }
    }
}
NGINX
nginx -c "$work/nginx.conf" -p "$work/nginx" &
pids+=($!)
theirs=http://127.0.0.1:$port
for _ in $(seq 50); do curl -s -o "$work/probe" "$theirs/" && break; sleep 0.1; done

# Requests are made before the run; each thread has agents of its own.
cat > "$work/beats.lua" <<'LUA'
local threads = 0
function setup(thread) thread:set("number", threads); threads = threads + 1 end
local requests, next = {}, 0
function init(arguments)
    local report = arguments[1] == "report"
    local headers = { ["Authorization"] = "Bearer " .. arguments[2], ["X-Tenant-ID"] = arguments[3],
        ["Content-Type"] = "application/json" }
    for agent = 1, 10000 do
        local body = string.format('{"agent_id":"agent-%d-%d","hostname":"host-%d"', number, agent, agent)
        if report then
            body = body .. ',"report":{"version":"0.1.0","generation":7,"published_at":"2026-01-01T00:00:00Z",' ..
                '"sources":{"aws-identity-center":{"sequence":31,"users":50000,"groups":1000},' ..
                '"local":{"sequence":3,"users":12,"groups":4}},"users":50012,"groups":1004,"ssh_keys":9,' ..
                '"dropped_total":1,"dropped":[{"kind":"user","name":"root","reason":"reserved name"}]}'
        end
        requests[agent] = wrk.format("POST", "/v1/agent/heartbeat", headers, body .. "}")
    end
end
function request() next = next % #requests + 1; return requests[next] end
LUA
run() { # url, plain or report, connections
    local output
    output=$(wrk -t2 -c"$3" -d"${seconds}s" -s "$work/beats.lua" "$1" -- "$2" "$secret" "$tenant")
    if grep -q 'Non-2xx' <<<"$output"; then echo "wrong answers from $1: $output" >&2; exit 1; fi
    awk '/^Requests\/sec/ { print $2 }' <<<"$output"
}
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

printf '%-34s %12s %12s %7s\n' "heartbeats/s" dirless "nginx, fixed" ratio
for what in plain report; do
    for connections in 64 512; do
        : > "$work/ours"; : > "$work/theirs"
        for _ in $(seq "$rounds"); do
            run "$ours" "$what" "$connections" >> "$work/ours"
            run "$theirs" "$what" "$connections" >> "$work/theirs"
        done
        our=$(median < "$work/ours") their=$(median < "$work/theirs")
        printf '%-34s %12s %12s %7s\n' "$what, $connections connections" "$our" "$their" \
            "$(awk "BEGIN { if ($their > 0) printf \"%.2f\", $our / $their; else print \"n/a\" }")"
    done
done
# Every agent that beat is known: nothing was answered and forgotten.
curl -sSf "$ours/v1/health" | python3 -c 'import json, sys
agents = json.load(sys.stdin)["active_agents"]
print("agents known:", agents)
sys.exit(agents != 20000)'
