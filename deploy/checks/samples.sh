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
# The files of a database's machine name the same three machines, ports and user as each other and as the backends' URL.
../target/tools/venv/bin/python - samples/cluster <<'PYTHON'
import re, sys, tomllib, yaml
folder = sys.argv[1]
patroni = yaml.safe_load(open(f"{folder}/patroni.yml"))
etcd = dict(line.strip().split("=", 1) for line in open(f"{folder}/etcd") if re.match(r"[A-Z]", line))
members = dict(member.split("=") for member in etcd["ETCD_INITIAL_CLUSTER"].split(","))
clients = [url.replace("http://", "").replace(":2380", ":2379") for url in members.values()]
assert patroni["etcd3"]["hosts"] == clients, (patroni["etcd3"], clients)
assert members[patroni["name"]] == etcd["ETCD_INITIAL_ADVERTISE_PEER_URLS"] and patroni["name"] == etcd["ETCD_NAME"]
dcs = patroni["bootstrap"]["dcs"]
assert dcs["synchronous_mode"] is True and dcs["synchronous_mode_strict"] is True and dcs["failsafe_mode"] is True
# What Patroni asks of them: a lease outlives a loop and what it may try again.
assert dcs["ttl"] >= dcs["loop_wait"] + 2 * dcs["retry_timeout"]
url = tomllib.load(open(f"{folder}/dirless.toml", "rb"))["storage"]["url"]
user, hosts, name = re.match(r"postgres://(\w+)@([^/]+)/(\w+)\?", url).groups()
assert [host.split(".")[0] for host in hosts.split(",")] == list(members), (hosts, members)
assert any(line.split()[:3] == ["hostssl", name, user] for line in patroni["postgresql"]["pg_hba"])
PYTHON
for program in dirless-backend dirless-syncer dirless-agent dirless-ldapd dirless; do
    "$built/$program" generate man --folder "$scratch/man"
    "$built/$program" generate completions --folder "$scratch/completions"
    [[ -s $scratch/man/$program.1 && -s $scratch/completions/$program.bash ]]
done
echo "$(find "$scratch/man" -name '*.1' | wc -l) manual pages"
