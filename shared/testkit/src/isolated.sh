# Runs "$@" as process 2 of a machine of its own: private mounts, network (loopback only),
# processes and host name. Called by isolated.rs through unshare(1) as
#   sh -c SCRIPT isolated PROGRAM ARGUMENT...
# Whatever the programs inside write to the folders below lands in memory and is gone with the last of
# them; nothing on the real machine changes.
set -eu
mount -t tmpfs -o mode=0755 isolated /run
for folder in etc home opt root srv tmp usr var; do
    mkdir -p "/run/layers/$folder/upper" "/run/layers/$folder/work"
    chmod --reference="/$folder" "/run/layers/$folder/upper"
    mount -t overlay overlay "/$folder" \
        -o "lowerdir=/$folder,upperdir=/run/layers/$folder/upper,workdir=/run/layers/$folder/work"
done
# A machine that never met Dirless, whatever the real one has.
rm -rf /etc/dirless /var/lib/dirless
mkdir -p -m 0700 /run/work
mkdir -p /run/sshd /run/lock
ip link set lo up
hostname "${ISOLATED_HOSTNAME:-web-1}"
TMPDIR=/run/work
export TMPDIR
# Not exec: this shell is process 1 and collects the orphans.
"$@" && status=0 || status=$?
exit "$status"
