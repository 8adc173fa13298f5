#!/usr/bin/env bash
# Plays generated requests against `dirless-syncer serve` and compares the answers with the committed
# description: statuses, media types, schemas, methods.
#
# usage: syncer/tests/schemathesis.sh [examples per operation]
# Needs python3 with venv; schemathesis is installed under target/tools.
set -euo pipefail
cd "$(dirname "$0")/../.."
examples=${1:-50}
venv=target/tools/venv
[ -x "$venv/bin/schemathesis" ] || { python3 -m venv "$venv" && "$venv/bin/pip" -q install 'schemathesis==4.32.5'; }
cargo build --quiet --locked -p dirless-syncer
syncer=${CARGO_TARGET_DIR:-target}/debug/dirless-syncer
work=$(mktemp -d)
# Nobody listens on port 1: what is served does not depend on a backend.
cat > "$work/syncer.toml" <<TOML
[backend]
url = "http://127.0.0.1:1"
enrollment_token = "schemathesis"
tenant_id = "acme"
[syncer]
state_folder = "$work/state"
key_folder = "$work/keys"
[serve]
listen = "127.0.0.1:0"
[log]
format = "text"
TOML
"$syncer" --config "$work/syncer.toml" token create test --scope read,write,sync,revoke,restore --file "$work/token" >"$work/made"
"$syncer" --config "$work/syncer.toml" serve 2> "$work/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 600); do grep -q 'serving on http' "$work/log" && break; sleep 0.1; done
url=$(grep -o 'http://[0-9.:]*' "$work/log" | grep -v ':1$' | head -1)
[ -n "$url" ] || { echo "the server did not start:"; cat "$work/log"; exit 1; }
# Left out: names, filters and entries follow grammars and a schema that the description cannot say, so
# generated data that satisfies it may be refused, and the other way round. The live stream does not end.
root=$PWD
cd "$work" # it leaves its notes in the folder it runs in
"$root/$venv/bin/schemathesis" run "$root/docs/openapi/syncer.json" --url "$url" -n "$examples" --seed 1 \
    -H "Authorization: Bearer $(cat "$work/token")" --exclude-operation-id changelogStream \
    --exclude-checks positive_data_acceptance,negative_data_rejection,missing_required_header,ignored_auth \
    --suppress-health-check all --no-color
# That there is no backend, and that it would be one of the classic protocol, is told, and is all that may be.
if grep -E ' (ERROR|WARN) |panicked' "$work/log" | grep -v -e 'cycles.failed' -e 'protocol.classic' -e 'dirless_client::cycle: http://127.0.0.1:1 ' -e 'a wrong token'; then
    echo "the server complained, see above"
    exit 1
fi
kill -0 $server
