//! A network of the test's own: namespaces with a router between workers and coordinator, in which packets can be lost.
//!
//! ```text
//! this namespace             router                    one namespace for each worker
//! 198.18.N.1 ─── 198.18.N.2 ─┬─ 198.18.N.5  ─── 198.18.N.6   ("w1")
//! coordinator, client        └─ 198.18.N.9  ─── 198.18.N.10  ("w2") …
//! ```
//!
//! What goes wrong goes wrong in the router, so that neither end is told: packets of one direction vanish there by a policy
//! rule, a link loses its carrier, a queue drops or delays. 198.18.0.0/15 is reserved for tests of networks (RFC 2544). A
//! lock on a file gives each test its N, also across processes; who has it clears away what a killed test left.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use super::Worker;

/// Where `ip` and its kind are, also for those whose path lacks the system's folders.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Networks at once on one machine.
const NETWORKS_MAX: u8 = 64;

/// Which packets are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Those of the worker.
    ToCoordinator,
    /// Those to it.
    ToWorker,
}

/// A network; gone with this value, also after a panic.
pub struct Net {
    number: u8,
    workers: u8,
    _lock: File,
}

/// A worker's place in it.
#[derive(Clone)]
pub struct Place {
    namespace: String,
    address: String,
    /// The router's end of its link.
    link: String,
    number: u8,
}

/// A worker that is somewhere in a network.
pub struct Placed {
    pub worker: Worker,
    pub place: Place,
}

fn tried(program: &str, args: &str) -> Result<(), String> {
    let output = Command::new(program).env("PATH", PATH).args(args.split(' ')).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program} {args}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("there is no `{program}`")),
        Err(error) => Err(format!("{program} {args}: {error}")),
    }
}

fn ip(args: &str) {
    tried("ip", args).unwrap();
}

/// Said where a part of a test cannot be done here.
pub fn skipped(what: &str, why: &str) {
    eprintln!("SKIPPED: {what}: {why}");
}

impl Net {
    /// A network without workers; `None`, with loud words, where this process may not make one.
    pub fn make() -> Option<Net> {
        let Some((number, lock)) = locked() else {
            skipped("network namespaces", "no lock can be had (64 are in use, or they are another user's)");
            return None;
        };
        clear(number);
        let net = Net { number, workers: 0, _lock: lock };
        let router = net.router();
        if let Err(why) = tried("ip", &format!("netns add {router}")) {
            skipped("network namespaces", &format!("{why} (needs root and the package iproute2)"));
            return None;
        }
        // nobody but the rules below may drop a packet whose way back is closed
        let switches = "cd /proc/sys/net/ipv4; echo 1 > ip_forward; \
                        for kind in all default; do echo 0 > conf/$kind/rp_filter; done";
        let args = ["netns", "exec", &router, "sh", "-c", switches];
        assert!(Command::new("ip").env("PATH", PATH).args(args).status().unwrap().success());
        let link = net.link();
        ip(&format!("link add {link} type veth peer name root netns {router}"));
        ip(&format!("addr add {}/30 dev {link}", net.address(1)));
        ip(&format!("link set {link} up"));
        ip(&format!("-n {router} addr add {}/30 dev root", net.address(2)));
        ip(&format!("-n {router} link set root up"));
        ip(&format!("route add {} via {} dev {link}", net.address(0) + "/24", net.address(2)));
        Some(net)
    }

    fn router(&self) -> String {
        format!("lockstep-{}-net", self.number)
    }

    /// The link to the router.
    fn link(&self) -> String {
        format!("lockstep{}", self.number)
    }

    fn address(&self, host: u8) -> String {
        format!("198.18.{}.{host}", self.number)
    }

    /// Where a coordinator listens.
    pub fn coordinator(&self) -> String {
        self.address(1)
    }

    /// A namespace for one more worker.
    pub fn place(&mut self) -> Place {
        self.workers += 1;
        let (router, number) = (self.router(), self.workers);
        let (gateway, address) = (self.address(4 * number + 1), self.address(4 * number + 2));
        let namespace = format!("lockstep-{}-w{number}", self.number);
        let link = format!("w{number}");
        ip(&format!("netns add {namespace}"));
        ip(&format!("-n {namespace} link set lo up"));
        ip(&format!("-n {router} link add {link} type veth peer name net0 netns {namespace}"));
        ip(&format!("-n {router} addr add {gateway}/30 dev {link}"));
        ip(&format!("-n {router} link set {link} up"));
        ip(&format!("-n {namespace} addr add {address}/30 dev net0"));
        ip(&format!("-n {namespace} link set net0 up"));
        ip(&format!("-n {namespace} route add default via {gateway}"));
        Place { namespace, address, link, number }
    }

    /// A worker in a namespace of its own.
    pub fn spawn(&mut self, url: &str, data: &Path, args: &[&str]) -> Placed {
        let place = self.place();
        let prefix = ["ip", "netns", "exec", &place.namespace];
        Placed { worker: Worker::spawn_under(&prefix, &[("PATH", PATH)], url, data, args), place }
    }

    /// From now on packets of one direction vanish. New and old connections, without a word to either end.
    pub fn lose(&self, what: Lost, of: &Place) {
        ip(&format!("-n {} rule add {}", self.router(), self.rule(what, of)));
    }

    /// No longer.
    pub fn let_pass(&self, what: Lost, of: &Place) {
        ip(&format!("-n {} rule del {}", self.router(), self.rule(what, of)));
    }

    fn rule(&self, what: Lost, of: &Place) -> String {
        let coordinator = self.coordinator();
        match what {
            Lost::ToCoordinator => {
                format!("pref {} from {} to {coordinator} blackhole", 100 + of.number, of.address)
            }
            Lost::ToWorker => {
                format!("pref {} from {coordinator} to {} blackhole", 200 + of.number, of.address)
            }
        }
    }

    /// A worker's link goes down.
    pub fn unplug(&self, place: &Place) {
        ip(&format!("-n {} link set {} down", self.router(), place.link));
    }

    /// And up.
    pub fn plug(&self, place: &Place) {
        ip(&format!("-n {} link set {} up", self.router(), place.link));
    }

    /// Resets a worker's connections, as a firewall that forgot them does; an error where this kernel cannot.
    pub fn reset(&self, place: &Place) -> Result<(), String> {
        // it succeeds also where nothing is killed
        tried("ip", &format!("netns exec {} ss -K dst {}", place.namespace, self.coordinator()))
    }

    /// A queue of the kernel at the router's ends of these links and of the coordinator's; an error where it has none.
    pub fn queue(&self, places: &[Place], discipline: &str) -> Result<(), String> {
        let links = places.iter().map(|place| place.link.as_str()).chain(["root"]);
        links.into_iter().try_for_each(|link| {
            tried("tc", &format!("-n {} qdisc replace dev {link} root {discipline}", self.router()))
        })
    }

    /// Loses so many of a thousand packets by the router's firewall; an error where it cannot.
    pub fn drop_some(&self, of_thousand: u32) -> Result<(), String> {
        let rule = format!("FORWARD -m statistic --mode random --probability 0.{of_thousand:03} -j DROP");
        let within = |program| tried("ip", &format!("netns exec {} {program} -A {rule}", self.router()));
        within("iptables").or_else(|_| within("iptables-legacy"))
    }

    /// Bytes that the coordinator's side has received.
    pub fn received(&self) -> u64 {
        let path = format!("/sys/class/net/{}/statistics/rx_bytes", self.link());
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        clear(self.number);
    }
}

/// The first number that nobody has.
fn locked() -> Option<(u8, File)> {
    (0..NETWORKS_MAX).find_map(|number| {
        let path = std::env::temp_dir().join(format!("lockstep-test-network-{number}.lock"));
        let file = File::create(path).ok()?;
        file.try_lock().ok()?;
        Some((number, file))
    })
}

/// Takes away everything with this number.
fn clear(number: u8) {
    let listed = Command::new("ip").env("PATH", PATH).args(["netns", "list"]).output();
    let listed =
        listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    for name in names.filter(|name| name.starts_with(&format!("lockstep-{number}-"))) {
        drop(tried("ip", &format!("netns del {name}")));
    }
    // gone with the router's namespace, but not at once
    drop(tried("ip", &format!("link del lockstep{number}")));
}
