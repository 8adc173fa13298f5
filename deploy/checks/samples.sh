#!/usr/bin/env bash
# sample configurations and front: each accepted by its own program; manual pages and completions
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(cd ..; cd "${CARGO_TARGET_DIR:-target}/debug"; pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp samples/*.toml "$scratch"
chmod 0600 "$scratch"/*
"$built/dirless-backend" check --config "$scratch/dirless.toml"
cp samples/cluster/dirless.toml "$scratch/cluster.toml"
chmod 0600 "$scratch/cluster.toml"
"$built/dirless-backend" check --config "$scratch/cluster.toml"
"$built/dirless-syncer" check --config "$scratch/dirless-syncer.toml"
"$built/dirless-syncer" check --config "$scratch/dirless-syncer-ldap.toml"
"$built/dirless-agent" check --config "$scratch/dirless-agent.toml" --limits "$scratch/limits.toml"
"$built/dirless-agent" check --config "$scratch/dirless-agent-signed.toml" --limits "$scratch/limits.toml"
"$built/dirless-ldapd" check --config "$scratch/ldapd.toml"
caddy validate --adapter caddyfile --config samples/Caddyfile 2>&1 | tail -n1
caddy validate --adapter caddyfile --config samples/cluster/Caddyfile 2>&1 | tail -n1
../target/tools/venv/bin/python -c 'import sys, yaml; yaml.safe_load(open(sys.argv[1]))' samples/cluster/patroni.yml
for program in dirless-backend dirless-syncer dirless-agent dirless-ldapd dirless; do
    "$built/$program" generate man --folder "$scratch/man"
    "$built/$program" generate completions --folder "$scratch/completions"
    [[ -s $scratch/man/$program.1 && -s $scratch/completions/$program.bash ]]
done
echo "$(find "$scratch/man" -name '*.1' | wc -l) manual pages"
