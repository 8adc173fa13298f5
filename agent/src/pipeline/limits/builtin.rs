//! Names that are never a directory's to give.
//!
//! Accounts and groups of the common distributions, and above all the groups that grant rights by
//! their name or number. Reserved even where the host lacks them: sudo and polkit rules name groups
//! that need not exist. One list serves users too, because a user's private group bears its name.

/// The reserved names, sorted.
pub(super) const RESERVED: [&str; 133] = [
    "_apt",
    "_chrony",
    "_ssh",
    "abrt",
    "adm",
    "admin",
    "apache",
    "audio",
    "avahi",
    "backup",
    "bin",
    "bluetooth",
    "cdrom",
    "chrony",
    "clock",
    "colord",
    "crontab",
    "cups",
    "daemon",
    "dbus",
    "debian-tor",
    "dhcpcd",
    "dialout",
    "dip",
    "dirless",
    "disk",
    "dnsmasq",
    "docker",
    "fax",
    "floppy",
    "ftp",
    "fwupd",
    "games",
    "gdm",
    "geoclue",
    "gnats",
    "halt",
    "haproxy",
    "http",
    "incus",
    "incus-admin",
    "input",
    "irc",
    "kmem",
    "kvm",
    "landscape",
    "libvirt",
    "libvirt-qemu",
    "lightdm",
    "list",
    "lock",
    "lp",
    "lpadmin",
    "lxd",
    "mail",
    "man",
    "mem",
    "memcached",
    "messagebus",
    "microk8s",
    "mysql",
    "named",
    "netdev",
    "news",
    "nginx",
    "nobody",
    "nogroup",
    "nslcd",
    "ntp",
    "operator",
    "oprofile",
    "ossec",
    "pcap",
    "plugdev",
    "podman",
    "polkitd",
    "pollinate",
    "postfix",
    "postgres",
    "proxy",
    "pulse",
    "qemu",
    "rdma",
    "redis",
    "render",
    "root",
    "rpc",
    "rpcuser",
    "rtkit",
    "saned",
    "sasl",
    "scanner",
    "sgx",
    "shadow",
    "shutdown",
    "snap_daemon",
    "src",
    "ssh",
    "ssh_keys",
    "sshd",
    "ssl-cert",
    "sssd",
    "staff",
    "stapdev",
    "stapsys",
    "stapusr",
    "statd",
    "sudo",
    "sync",
    "sys",
    "syslog",
    "systemd",
    "tape",
    "tcpdump",
    "tomcat",
    "toor",
    "tss",
    "tty",
    "ubuntu",
    "unbound",
    "users",
    "usbmux",
    "utempter",
    "utmp",
    "uucp",
    "uuidd",
    "vboxusers",
    "video",
    "voice",
    "wheel",
    "wireshark",
    "www-data",
    "zabbix",
];

/// Families of names that grow with each release.
const PREFIXES: [&str; 2] = ["systemd-", "dirless-"];

/// The group that portals and `dirless-syncer local` put every local user into. It is nobody's on a
/// host and grants nothing.
const LOCAL_USERS: &str = "dirless-local";

/// Is `name` reserved on every host?
pub(super) fn is_reserved(name: &str) -> bool {
    if name == LOCAL_USERS {
        return false;
    }
    RESERVED.binary_search(&name).is_ok() || is_of_family(name)
}

/// Does `name` begin as a reserved family of names does?
pub(super) fn is_of_family(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Shells that are fine where shells(5) does not say.
pub(super) const SAFE_SHELLS: [&str; 12] = [
    "/bin/bash",
    "/bin/dash",
    "/bin/fish",
    "/bin/ksh",
    "/bin/sh",
    "/bin/zsh",
    "/usr/bin/bash",
    "/usr/bin/dash",
    "/usr/bin/fish",
    "/usr/bin/ksh",
    "/usr/bin/sh",
    "/usr/bin/zsh",
];

/// The usual ways to say "no login"; always fine.
pub(super) const NO_LOGIN: [&str; 6] = [
    "/bin/false",
    "/bin/nologin",
    "/sbin/nologin",
    "/usr/bin/false",
    "/usr/bin/nologin",
    "/usr/sbin/nologin",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_grants_rights_is_reserved() {
        let granting = [
            "root",
            "sudo",
            "wheel",
            "admin",
            "adm",
            "docker",
            "disk",
            "shadow",
            "lxd",
            "kvm",
            "libvirt",
            "incus-admin",
            "staff",
            "kmem",
            "tty",
            "input",
            "systemd-journal",
            "systemd-network",
            "nobody",
            "operator",
            "podman",
            "dirless",
            "dirless-backend",
        ];
        for name in granting {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["alice", "engineering-team", "sudoers-eu", "systemd2", "dirless-local"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
