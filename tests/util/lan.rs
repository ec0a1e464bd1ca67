//! Two computers and the switch between them, each a network namespace: cables that can be pulled.

use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use super::builder::{Builder, TRUST_HBA};
use super::cluster::Cluster;
use super::login::Login;
use super::programs::Programs;
use super::skip::skipped;

/// The addresses are the same in every network: no two of them know of each other.
const SERVER: &str = "10.0.0.1";
const CLIENT: &str = "10.0.0.2";

/// A network of its own, gone when dropped.
#[derive(Debug)]
pub struct Lan {
    name: String,
}

impl Lan {
    /// Lays it; says so where this process may not, for then the test tests nothing.
    pub fn lay() -> Option<Self> {
        static LAID: AtomicU32 = AtomicU32::new(0);
        let number = LAID.fetch_add(1, Ordering::Relaxed);
        let lan = Self {
            name: format!("seats-{}-{number}", process::id()),
        };
        match lan.connect() {
            Ok(()) => Some(lan),
            Err(why) => {
                skipped(&format!("no network namespaces here ({why})"));
                None
            }
        }
    }

    /// Describes a server that listens to the network, with no settings of its own yet.
    pub fn server(&self) -> Builder {
        Cluster::builder()
            .programs(Programs::from_env().inside(&self.namespace("server")))
            .conf("listen_addresses", "*")
            .hba(&format!("{TRUST_HBA}host all all 10.0.0.0/24 trust\n"))
    }

    /// Returns the same user at the client's computer, whose programs connect over the network.
    pub fn client(&self, login: &Login) -> Login {
        let programs = login.programs.clone().inside(&self.namespace("client"));
        login.clone().programs(&programs).from(CLIENT).to(SERVER)
    }

    /// Pulls the client's cable out of the switch: from now on whatever either computer sends is
    /// lost, and the server's own cable stays as it is.
    pub fn pull(&self) {
        self.set_port("down");
    }

    /// Plugs it in again.
    pub fn plug(&self) {
        self.set_port("up");
    }

    fn set_port(&self, state: &str) {
        let switch = self.namespace("switch");
        ip(&["-n", &switch, "link", "set", "client", state]).unwrap();
    }

    fn namespace(&self, computer: &str) -> String {
        format!("{}-{computer}", self.name)
    }

    fn connect(&self) -> Result<(), String> {
        let switch = self.namespace("switch");
        ip(&["netns", "add", &switch])?;
        let in_switch = |args: &[&str]| ip(&[&["-n", &switch], args].concat());
        // Without a delay it forwards at once.
        in_switch(&[
            "link",
            "add",
            "bridge",
            "type",
            "bridge",
            "forward_delay",
            "0",
        ])?;
        in_switch(&["link", "set", "bridge", "up"])?;
        for (computer, address) in [("server", SERVER), ("client", CLIENT)] {
            let namespace = self.namespace(computer);
            ip(&["netns", "add", &namespace])?;
            in_switch(&[
                "link", "add", computer, "type", "veth", "peer", "name", "lan", "netns", &namespace,
            ])?;
            in_switch(&["link", "set", computer, "master", "bridge", "up"])?;
            let address = format!("{address}/24");
            ip(&["-n", &namespace, "address", "add", &address, "dev", "lan"])?;
            for device in ["lo", "lan"] {
                ip(&["-n", &namespace, "link", "set", device, "up"])?;
            }
        }
        Ok(())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for computer in ["server", "client", "switch"] {
            let _ = ip(&["netns", "delete", &self.namespace(computer)]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    match Command::new("ip").args(args).output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => Err(format!(
            "ip {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&stderr).trim()
        )),
        Err(error) => Err(format!("ip: {error}")),
    }
}
