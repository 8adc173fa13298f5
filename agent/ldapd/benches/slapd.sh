#!/usr/bin/env bash
# dirless-ldapd beside slapd (mdb, indexed): the same entries, the same load, one after the other in one run.
#
#   agent/ldapd/benches/slapd.sh USERS [SECONDS [FOLDER]]
#
# With FOLDER the entries are made there once and used again; with 0 SECONDS they are only made, so that the
# time of a quiet machine goes to measuring.
#
# Needs a release build (cargo build --release -p dirless-ldapd -p dirless-copy --bins --examples) and the
# Debian package slapd. Prints one line for each kind of work: operations a second, server microseconds of
# processor per operation and p99 of both. Everything is made in a temporary folder; no port of a real
# server is used.
set -euo pipefail
cd "$(dirname "$0")/../../.."
users=${1:?how many users}
seconds=${2:-2}
built=${CARGO_TARGET_DIR:-target}/release
work=${3:-}
pids=()
temporary=
[[ -n $work ]] || { work=$(mktemp -d) && temporary=$work; }
mkdir -p "$work"
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done; wait 2>/dev/null; rm -rf "$temporary"' EXIT
ours=127.0.0.1:3990 theirs=127.0.0.1:3991

echo "== $users users"
if [[ ! -e $work/made ]]; then
    "$built/examples/make_copy" "$users" "$work/copy.db" measure
    "$built/examples/make_copy" "$users" "$work/copy.db" ldif >"$work/all.ldif"
fi

cat >"$work/bis.schema" <<'SCHEMA'
attributetype ( 1.3.6.1.1.1.1.2 NAME 'gecos' EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.1.1.1.3 NAME 'homeDirectory' EQUALITY caseExactIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.1.1.1.4 NAME 'loginShell' EQUALITY caseExactIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.1.1.1.12 NAME 'memberUid' EQUALITY caseExactIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.24552.500.1.1.1.13 NAME 'sshPublicKey' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.1.1.2.0 NAME 'posixAccount' SUP top AUXILIARY MUST ( cn $ uid $ uidNumber $ gidNumber $ homeDirectory ) MAY ( userPassword $ loginShell $ gecos $ description ) )
objectclass ( 1.3.6.1.1.1.2.1 NAME 'shadowAccount' SUP top AUXILIARY MUST uid MAY ( userPassword $ description ) )
objectclass ( 1.3.6.1.1.1.2.2 NAME 'posixGroup' SUP top AUXILIARY MUST gidNumber MAY ( userPassword $ memberUid $ description ) )
objectclass ( 1.3.6.1.4.1.24552.500.1.1.2.0 NAME 'ldapPublicKey' SUP top AUXILIARY MAY ( sshPublicKey $ uid ) )
SCHEMA
mkdir -p "$work/mdb"
cat >"$work/slapd.conf" <<CONF
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include $work/bis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile $work/slapd.pid
sizelimit unlimited
timelimit unlimited
loglevel 0
database mdb
maxsize 8589934592
suffix "dc=dirless"
directory $work/mdb
index objectClass,uid,cn,uidNumber,gidNumber,memberUid,member,entryUUID eq
CONF
if [[ ! -e $work/made ]]; then
    start=$(date +%s.%N)
    slapadd -q -s -f "$work/slapd.conf" -l "$work/all.ldif" 2>&1 | grep -v '#####\|Closing' || true
    echo "slapadd -q: $(echo "$(date +%s.%N) - $start" | bc) s, $(du -sk "$work/mdb" | cut -f1) KiB"
    touch "$work/made"
fi
[[ $seconds != 0 ]] || exit 0
/usr/sbin/slapd -d 0 -f "$work/slapd.conf" -h "ldap://$theirs" &
slapd=$!
pids+=("$slapd")
printf 'copy = "%s"\nlisten = ["ldap://%s"]\n' "$work/copy.db" "$ours" >"$work/ldapd.toml"
"$built/dirless-ldapd" --log-format json --config "$work/ldapd.toml" run &
ldapd=$!
pids+=("$ldapd")
for address in "$ours" "$theirs"; do
    until (exec 3<>"/dev/tcp/${address/://}") 2>/dev/null; do sleep 0.1; done
    # Answers once both have read what they read at their start.
    "$built/examples/load" "$address" uid "users=$users" seconds=0.1 >/dev/null
done

field() { sed "s/.*\"$1\":\([0-9.]*\).*/\1/"; }
printf '%-22s %10s %10s %7s   %8s %8s   %9s %9s\n' work slapd ldapd ratio 'slapd us' 'ldapd us' 'slapd p99' 'ldapd p99'
row() { # NAME WORK CONNECTIONS IN-FLIGHT
    local one other
    one=$("$built/examples/load" "$theirs" "$2" "users=$users" "connections=$3" "in-flight=$4" "seconds=$seconds" "pid=$slapd")
    other=$("$built/examples/load" "$ours" "$2" "users=$users" "connections=$3" "in-flight=$4" "seconds=$seconds" "pid=$ldapd")
    local a b
    a=$(field ops_per_second <<<"$one") b=$(field ops_per_second <<<"$other")
    printf '%-22s %10s %10s %7s   %8s %8s   %9s %9s\n' "$1" "$a" "$b" "$(echo "scale=2; $b / ($a + 0.001)" | bc)" \
        "$(field server_cpu <<<"$one")" "$(field server_cpu <<<"$other")" "$(field p99 <<<"$one")" "$(field p99 <<<"$other")"
    if [[ $(field entries_per_op <<<"$one") != $(field entries_per_op <<<"$other") ]]; then
        echo "    the answers differ: $one $other"
    fi
}
row 'uid, 1 connection' uid 1 1
row 'uid, 8 connections' uid 8 1
row 'uid, 64 in flight' uid 1 64
row 'uidNumber' uidnumber 1 1
row 'member=DN' member 1 1
row 'memberUid' memberuid 1 1
row 'initgroups' initgroups 1 1
row 'initgroups, 64 in fl.' initgroups 1 64
row 'group with everyone' group 1 1
row 'dump' dump 1 1
row 'dump in pages of 1000' paged 1 1
row 'compare member' compare 1 1
row 'bind {SSHA}' bind 1 1
row 'connect, bind, search' session 1 1
for server in "$slapd slapd" "$ldapd dirless-ldapd"; do
    read -r pid name <<<"$server"
    echo "$name: $(grep -E '^(VmHWM|RssAnon|RssFile)' "/proc/$pid/status" | tr -s '\t ' ' ' | tr '\n' ';')"
done
