#!/usr/bin/env bash
# 389 Directory Server under the load of slapd.sh, for scale.
#
#   agent/ldapd/benches/389ds.sh USERS SECONDS FOLDER
#
# FOLDER is that of `slapd.sh USERS 0 FOLDER`, whose entries are loaded once and used again. Needs the Debian
# package 389-ds-base, which nothing else needs, and root. An instance named `bench` is made in the
# machine's own places, where that server wants it, and removed in the end.
set -euo pipefail
cd "$(dirname "$0")/../../.."
users=${1:?how many users} seconds=${2:?how long} work=${3:?the folder of slapd.sh}
built=${CARGO_TARGET_DIR:-target}/release
theirs=127.0.0.1:3992
server=
instance=/etc/dirsrv/slapd-bench
own=(/etc/dirsrv/slapd-bench /var/lib/dirsrv/slapd-bench /var/log/dirsrv/slapd-bench /run/lock/dirsrv/slapd-bench)
[[ ! -e $instance ]] || { echo "there is an instance named bench already: $instance" >&2; exit 1; }
trap '[[ -z $server ]] || kill "$server"; wait; rm -rf "${own[@]}"' EXIT

cat >"$work/389.inf" <<INF
[general]
config_version = 2
full_machine_name = localhost.localdomain
start = False
strict_host_checking = False
[slapd]
instance_name = bench
port = ${theirs#*:}
self_sign_cert = False
INF
# It ends by asking systemd to start the instance, which is not what is wanted here.
dscreate from-file "$work/389.inf" >"$work/389.log" 2>&1 || true
grep -q 'nsslapd-port' "$instance/dse.ldif" || { cat "$work/389.log" >&2; exit 1; }
# Nobody looks at the schema or counts what is found, as with slapd.
sed -i -e 's/^nsslapd-\(sizelimit\|lookthroughlimit\|idlistscanlimit\): .*/nsslapd-\1: -1/' \
    -e "s/^nsslapd-port: .*/&\nnsslapd-schemacheck: off\nnsslapd-accesslog-logging-enabled: off/" "$instance/dse.ldif"
{
    cat <<LDIF
dn: cn="dc=dirless",cn=mapping tree,cn=config
objectClass: top
objectClass: extensibleObject
objectClass: nsMappingTree
cn: "dc=dirless"
nsslapd-state: backend
nsslapd-backend: bench

dn: cn=bench,cn=ldbm database,cn=plugins,cn=config
objectClass: top
objectClass: extensibleObject
objectClass: nsBackendInstance
cn: bench
nsslapd-suffix: dc=dirless
nsslapd-directory: /var/lib/dirsrv/slapd-bench/db/bench

LDIF
    for attribute in memberUid uidNumber gidNumber; do
        printf 'dn: cn=%s,cn=default indexes,cn=config,cn=ldbm database,cn=plugins,cn=config\n' "$attribute"
        printf 'objectClass: top\nobjectClass: nsIndex\ncn: %s\nnsSystemIndex: false\nnsIndexType: eq\n\n' "$attribute"
    done
} >>"$instance/dse.ldif"
chown -R dirsrv: "${own[@]:0:3}"
install -d -o dirsrv -g dirsrv /run/lock/dirsrv /run/dirsrv "${own[3]}"
# Readable by everyone, as slapd's default is.
awk 'NR == 1, /^$/ { if (/^$/) print "aci: (targetattr=\"*\")(version 3.0; acl \"read\"; allow (read,search,compare) userdn=\"ldap:///anyone\";)" } 1' \
    "$work/all.ldif" >"$work/389.ldif"
chmod a+rx "$work"; chmod a+r "$work/389.ldif"
start=$(date +%s.%N)
ns-slapd ldif2db -D "$instance" -n bench -i "$work/389.ldif" >>"$work/389.log" 2>&1 || { tail -n 20 "$work/389.log" /var/log/dirsrv/slapd-bench/errors >&2; exit 1; }
echo "== $users users; ldif2db: $(echo "$(date +%s.%N) - $start" | bc) s"
ns-slapd -D "$instance" -i /run/dirsrv/slapd-bench.pid -d 0 >>"$work/389.log" 2>&1 &
server=$!
until "$built/examples/load" "$theirs" uid "users=$users" seconds=0.1 >/dev/null 2>&1; do sleep 0.2; done

field() { sed "s/.*\"$1\":\([0-9.]*\).*/\1/"; }
printf '%-22s %10s %10s %10s %8s\n' work ops/s 'us of CPU' p99 entries
while read -r kind connections in_flight; do
    row=$("$built/examples/load" "$theirs" "$kind" "users=$users" "connections=$connections" "in-flight=$in_flight" "seconds=$seconds" "pid=$server" 2>&1) || row=
    printf '%-22s %10s %10s %10s %8s\n' "$kind $connections/$in_flight" "$(field ops_per_second <<<"$row")" \
        "$(field server_cpu <<<"$row")" "$(field p99 <<<"$row")" "$(field entries_per_op <<<"$row")"
done <<ROWS
uid 1 1
uid 8 1
uid 1 64
uidnumber 1 1
member 1 1
memberuid 1 1
initgroups 1 1
initgroups 1 64
group 1 1
dump 1 1
paged 1 1
compare 1 1
bind 1 1
session 1 1
ROWS
grep -E '^(VmHWM|RssAnon|RssFile)' "/proc/$server/status" | tr -s '\t ' ' ' | tr '\n' ';'
echo
