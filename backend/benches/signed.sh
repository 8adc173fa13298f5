#!/usr/bin/env bash
# Requests of the verified protocol, each with a signature that the server verifies (Ed25519): a heartbeat with a receipt, a
# head, and a head that has not changed. nginx beside it compares one fixed header and serves the same bytes from files, or a
# fixed text for heartbeats: it verifies nothing, so the ratio says what signatures cost.
#
# usage: backend/benches/signed.sh [seconds per run] [rounds]
# Needs wrk, nginx, openssl, curl, python3. Builds the release program, unless DIRLESS_BACKEND names one.
# A signature holds for five minutes: seconds x rounds must stay below 70.
seconds=${1:-5}
rounds=${2:-3}
# shellcheck source=backend/benches/common.sh
source "$(dirname "$0")/common.sh" wrk nginx openssl curl python3

start_ours plain ""
ours=$url
# A tenant of its own; the other one is nginx's and shows that it compares two headers.
signed=bench
cat > "$work/sign.py" <<'PYTHON'
# new FOLDER publisher|node: a key; prints its id and its text. sign FOLDER METHOD PATH BODY: prints the header's value.
import base64, datetime, hashlib, subprocess, sys
def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout
command, folder = sys.argv[1:3]
if command == "new":
    openssl("genpkey", "-algorithm", "ed25519", "-out", f"{folder}.pem")
    public = openssl("pkey", "-in", f"{folder}.pem", "-pubout", "-outform", "DER")[-32:]
    name = "syncer" if sys.argv[3] == "publisher" else "n" + hashlib.sha256(public).hexdigest()[:16]
    hash = hashlib.sha256(name.encode() + b"\n\x01" + public).hexdigest()[:8]
    open(f"{folder}.id", "w").write(f"{name}+{hash}")
    encoded = base64.b64encode(b"\x01" + public).decode()
    print(f"{name}+{hash}", f"{name}+{hash}+{encoded}")
else:
    method, path, body = sys.argv[3:6]
    key = open(f"{folder}.id").read()
    time = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = open(body, "rb").read() if body != "-" else b""
    tenant = path.split("/")[2]
    text = f"dirless/request/v1\n{method}\n{path}\n{tenant}\n{time}\n{hashlib.sha256(body).hexdigest()}\n"
    open(f"{folder}.text", "w").write(text)
    signature = openssl("pkeyutl", "-sign", "-rawin", "-inkey", f"{folder}.pem", "-in", f"{folder}.text")
    print(f'Dirless-Ed25519 key="{key}", time="{time}", signature="{base64.b64encode(signature).decode()}"')
PYTHON
sign() { python3 "$work/sign.py" sign "$work/$1" "$2" "/v2/$signed/$3" "$4"; }
ask() { # key, method, path, body file or -, more arguments of curl
    local key=$1 method=$2 path=$3 body=$4
    shift 4
    local data=()
    [ "$body" = - ] || data=(--data-binary "@$body")
    curl -sSf -o "$work/answer" -X "$method" -H "Authorization: $(sign "$key" "$method" "$path" "$body")" "${data[@]}" "$@" "$ours/v2/$signed/$path"
}

token=$("$program" --config "$work/plain.toml" token create --label bench --scope tenants --realm default)
read -r publisher text <<<"$(python3 "$work/sign.py" new "$work/publisher" publisher)"
# The server hears of a token that a command made within half a second.
curl -sSf -o "$work/answer" --retry 3 --retry-all-errors -X PUT -H "Authorization: Bearer $token" -d "{\"key\":\"$text\",\"role\":\"publisher\"}" \
    "$ours/v2/$signed/credential/$publisher"
read -r node text <<<"$(python3 "$work/sign.py" new "$work/node" node)"
printf '{"key":"%s","role":"node"}' "$text" > "$work/credential"
ask publisher PUT "credential/$node" "$work/credential"
# A head of usual length; the server reads none of it.
head -c 400 /dev/urandom | base64 -w 76 > "$work/head"
ask publisher PUT head/syncer "$work/head" -H 'If-None-Match: *'
head -c 300 /dev/urandom > "$work/receipt"

mkdir -p "$work/www/v2/$signed/head"
cp "$work/head" "$work/www/v2/$signed/head/syncer"
chmod a+rx "$work"
chmod -R a+rX "$work/www"
port=$(free_port)
# The check is of one header that is always there: what it costs to compare.
start_nginx "$port" "open_file_cache max=100 inactive=1h; sendfile on; tcp_nopush on;" \
    "root $work/www; etag on; location /v2/$signed/heartbeat { return 200 '{\"status\":\"ok\"}'; }"
theirs=http://127.0.0.1:$port

cat > "$work/request.lua" <<'LUA'
function init(arguments)
    wrk.method = arguments[1]
    for index = 3, #arguments do
        local name, value = arguments[index]:match("^([^:]*): (.*)$")
        wrk.headers[name] = value
    end
    if arguments[2] ~= "-" then
        local file = assert(io.open(arguments[2], "rb"))
        wrk.body = file:read("a")
    end
end
LUA
run() { # base, connections, method, path, body, tags by base
    local headers=("X-Tenant-ID: $tenant")
    if [ "$1" = "$ours" ]; then
        headers+=("Authorization: $(sign node "$3" "$4" "$5")")
    else
        headers+=("Authorization: Bearer $secret")
    fi
    [ -z "${tags[$1]:-}" ] || headers+=("If-None-Match: ${tags[$1]}")
    load "$1" "$2" -s "$work/request.lua" "$1/v2/$signed/$4" -- "$3" "$5" "${headers[@]}"
}
tag_of() { tr -d '\r' | awk 'tolower($1) == "etag:" { print $2 }'; }

printf '%-34s %12s %12s %7s\n' "signed requests/s" dirless "nginx, fixed" ratio
for connections in 64 512; do
    declare -A tags=()
    compare "heartbeat, $connections connections" run "$ours" "$theirs" "$connections" POST heartbeat "$work/receipt"
    compare "head, $connections connections" run "$ours" "$theirs" "$connections" GET head/syncer -
    tags=([$ours]=$(curl -sS -D - -o "$work/answer" -H "Authorization: $(sign node GET head/syncer -)" "$ours/v2/$signed/head/syncer" | tag_of)
        [$theirs]=$(curl -sS -D - -o "$work/answer" -H "Authorization: Bearer $secret" -H "X-Tenant-ID: $tenant" "$theirs/v2/$signed/head/syncer" | tag_of))
    [ -n "${tags[$ours]}" ] && [ -n "${tags[$theirs]}" ]
    compare "head, 304, $connections connections" run "$ours" "$theirs" "$connections" GET head/syncer -
done

# What a signature costs the server, whatever else runs on the machine.
ticks() { awk '{ print $14 + $15 }' "/proc/${pids[0]}/stat"; }
tags=()
for what in "heartbeat POST heartbeat $work/receipt" "head GET head/syncer -"; do
    read -r name method path body <<<"$what"
    before=$(ticks)
    rate=$(run "$ours" 64 "$method" "$path" "$body")
    printf '%s: %s\n' "$name" "$(awk "BEGIN { printf \"%.1f µs of processor time\", ($(ticks) - $before) * 10000 / ($rate * $seconds) }")"
done
