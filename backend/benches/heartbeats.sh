#!/usr/bin/env bash
# Heartbeats a second that the server accepts, as deployed agents send them and with a report, from
# 20,000 agents over kept connections; nginx answering the same requests with a fixed text stands
# beside it for scale. The load shares the machine with both.
#
# usage: backend/benches/heartbeats.sh [seconds per run] [rounds]
# Needs wrk, nginx, curl, python3. Builds the release program, unless DIRLESS_BACKEND names one.
seconds=${1:-5}
rounds=${2:-3}
# shellcheck source=backend/benches/common.sh
source "$(dirname "$0")/common.sh" wrk nginx curl python3

start_ours plain ""
ours=$url
port=$(free_port)
start_nginx "$port" "default_type application/json;" "location / { return 200 '{\"status\":\"ok\"}'; }"
theirs=http://127.0.0.1:$port

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
    load "$1" "$3" -s "$work/beats.lua" "$1" -- "$2" "$secret" "$tenant"
}

printf '%-34s %12s %12s %7s\n' "heartbeats/s" dirless "nginx, fixed" ratio
for what in plain report; do
    for connections in 64 512; do
        compare "$what, $connections connections" run "$ours" "$theirs" "$what" "$connections"
    done
done
# Every agent that beat is known: nothing was answered and forgotten.
curl -sSf "$ours/v1/health" | python3 -c 'import json, sys
agents = json.load(sys.stdin)["active_agents"]
print("agents known:", agents)
sys.exit(agents != 20000)'
