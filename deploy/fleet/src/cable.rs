//! A network of its own for a process (ip-netns(8)), with one cable to this machine that can be pulled. Needs root.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, bail};
use dirless_testkit::{Program, built};

/// The namespace and the pair of devices.
#[derive(Debug)]
pub(crate) struct Cable {
    name: String,
    device: String,
    number: u8,
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("running ip (package iproute2)")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}; networks need root", arguments.join(" "), said.trim());
    }
    Ok(())
}

impl Cable {
    /// Lays a cable to a new namespace. Numbers tell those of one process apart.
    pub(crate) fn lay(number: usize) -> anyhow::Result<Self> {
        let process = std::process::id();
        let number = u8::try_from(number).context("too many networks")?;
        let cable = Self {
            name: format!("fleet-{process}-{number}"),
            device: format!("fl{process}n{number}"),
            number,
        };
        ip(&["netns", "add", &cable.name])?;
        let (name, device) = (cable.name.as_str(), cable.device.as_str());
        ip(&[
            "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name,
        ])?;
        ip(&["addr", "add", &format!("{}/24", cable.near()), "dev", device])?;
        ip(&["link", "set", device, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{}/24", cable.far()), "dev", "eth0"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(cable)
    }

    /// The address of this end.
    pub(crate) fn near(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 1)
    }

    /// The address of whoever lives at the other end.
    pub(crate) fn far(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 2)
    }

    /// From now on nothing passes, and nobody is told.
    pub(crate) fn pull(&self) -> anyhow::Result<()> {
        ip(&["link", "set", &self.device, "down"])
    }

    /// From now on everything passes again.
    pub(crate) fn plug(&self) -> anyhow::Result<()> {
        ip(&["link", "set", &self.device, "up"])
    }

    /// One of our programs at the other end.
    pub(crate) fn program(&self, name: &str) -> anyhow::Result<Program> {
        Ok(Program::system("ip")
            .args(["netns", "exec", &self.name])
            .arg(built(name)?))
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The devices go with the namespace, and that when its last process has ended.
        let _ = ip(&["link", "del", &self.device]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}
