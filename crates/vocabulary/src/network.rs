//! Networks as people write them, and which addresses of the internet are somebody's own: `10.0.0.0/8`, `loopback`.
//!
//! Invariants: what is displayed parses to the same value; an IPv4 address that comes inside of an IPv6 one is judged as
//! the IPv4 address that it is. What nobody has assigned to the public internet counts as special: a list of what is public,
//! not of what is private, so that a range that is forgotten here is refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Networks in one list: more are a slip of the finger.
const NETWORKS_MAX: usize = 64;

/// Addresses with the same first bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// The bits beyond the prefix are zero.
    address: IpAddr,
    /// First bits that count: at most 32, or 128.
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is no network: expected an address, one with a prefix such as `10.0.0.0/8` or `fd00::/8`, or `loopback`"
)]
pub struct ParseNetworkError(String);

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Network {
        Network { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Network {
        Network { address: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), prefix }
    }

    /// Whether the address is one of it; one of IPv4 is never in a network of IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                (network.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                (network.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Network, ParseNetworkError> {
        let refuse = || ParseNetworkError(text.chars().take(80).collect());
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        // one that is written as IPv6 and means IPv4 would never be met
        if address.to_canonical() != address {
            return Err(refuse());
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |prefix| prefix.parse::<u8>().map_err(|_| refuse()))?;
        let network = Network { address, prefix };
        let is_whole = match address {
            IpAddr::V4(it) => it.to_bits().checked_shl(prefix.into()).unwrap_or(0) == 0,
            IpAddr::V6(it) => it.to_bits().checked_shl(prefix.into()).unwrap_or(0) == 0,
        };
        if prefix <= most && is_whole { Ok(network) } else { Err(refuse()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Several networks, as settings have them: separated by commas; `loopback` stands for `127.0.0.0/8,::1/128`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Whether the address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Networks {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Networks, ParseNetworkError> {
        let mut networks = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part {
                "loopback" => networks.extend(LOOPBACK),
                part => networks.push(part.parse()?),
            }
        }
        if networks.len() > NETWORKS_MAX {
            return Err(ParseNetworkError(format!("{} networks", networks.len())));
        }
        Ok(Networks(networks))
    }
}

impl TryFrom<String> for Networks {
    type Error = ParseNetworkError;

    fn try_from(text: String) -> Result<Networks, ParseNetworkError> {
        text.parse()
    }
}

impl From<Networks> for String {
    fn from(networks: Networks) -> String {
        networks.to_string()
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if position > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// The machine itself.
const LOOPBACK: [Network; 2] =
    [Network::v4(127, 0, 0, 0, 8), Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 }];

/// What of IPv4 is not the public internet: the IANA special-purpose registry (RFC 6890 and later), multicast, and one
/// address of a cloud that is its metadata service though it looks public.
const SPECIAL_V4: [(Network, &str); 16] = [
    (Network::v4(0, 0, 0, 0, 8), "unspecified"),
    (Network::v4(10, 0, 0, 0, 8), "private"),
    (Network::v4(100, 64, 0, 0, 10), "shared (carrier NAT)"),
    (Network::v4(127, 0, 0, 0, 8), "loopback"),
    (Network::v4(168, 63, 129, 16, 32), "a cloud's metadata service"),
    (Network::v4(169, 254, 0, 0, 16), "link-local (also cloud metadata)"),
    (Network::v4(172, 16, 0, 0, 12), "private"),
    (Network::v4(192, 0, 0, 0, 24), "reserved"),
    (Network::v4(192, 0, 2, 0, 24), "for documentation"),
    (Network::v4(192, 88, 99, 0, 24), "reserved"),
    (Network::v4(192, 168, 0, 0, 16), "private"),
    (Network::v4(198, 18, 0, 0, 15), "for benchmarks"),
    (Network::v4(198, 51, 100, 0, 24), "for documentation"),
    (Network::v4(203, 0, 113, 0, 24), "for documentation"),
    (Network::v4(224, 0, 0, 0, 4), "multicast"),
    (Network::v4(240, 0, 0, 0, 4), "reserved"),
];

/// What of IPv6 is named when it is refused; everything outside of 2000::/3 is refused in any case.
const SPECIAL_V6: [(Network, &str); 10] = [
    (LOOPBACK[1], "loopback"),
    (Network::v6(0, 0, 0, 96), "unspecified"),
    (Network::v6(0xfc00, 0, 0, 7), "private (unique local)"),
    (Network::v6(0xfe80, 0, 0, 10), "link-local"),
    (Network::v6(0xff00, 0, 0, 8), "multicast"),
    (Network::v6(0x2001, 0, 0, 23), "reserved"),
    (Network::v6(0x2001, 0x0db8, 0, 32), "for documentation"),
    (Network::v6(0x2002, 0, 0, 16), "reserved"),
    (Network::v6(0x3fff, 0, 0, 20), "for documentation"),
    (Network::v6(0x0064, 0xff9b, 1, 48), "reserved"),
];
/// The part of IPv6 that is assigned to the public internet.
const GLOBAL_V6: Network = Network::v6(0x2000, 0, 0, 3);
/// IPv4 addresses as networks of IPv6 write them (NAT64, RFC 6052).
const NAT64: Network = Network::v6(0x0064, 0xff9b, 0, 96);

/// What an address is if it is not one of the public internet, in a word.
pub fn special(address: IpAddr) -> Option<&'static str> {
    let named = |table: &[(Network, &'static str)], address| {
        table.iter().find(|(network, _)| network.contains(address)).map(|(_, what)| *what)
    };
    match address.to_canonical() {
        IpAddr::V4(address) => named(&SPECIAL_V4, address.into()),
        IpAddr::V6(address) if NAT64.contains(address.into()) => {
            let [.., a, b, c, d] = address.octets();
            special(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => {
            let is_global = GLOBAL_V6.contains(address.into());
            named(&SPECIAL_V6, address.into()).or((!is_global).then_some("reserved"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_what_has_its_first_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.8"),
            ("172.16.0.0/12", "172.31.0.1", "172.32.0.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "ff::", "1.2.3.4"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(address(inside)), "{network} {inside}");
            assert!(!network.contains(address(outside)), "{network} {outside}");
            assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
        }
        // an IPv4 address is the same in either spelling
        assert!("10.0.0.0/8".parse::<Network>().unwrap().contains(address("::ffff:10.1.2.3")));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in
            ["", "x", "10.0.0.0/33", "::/129", "10.0.0.1/8", "10.0.0.0/", "10/8", "::ffff:10.0.0.0/104"]
        {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert!("10.0.0.0/8,x".parse::<Networks>().is_err());
        assert!(["10.0.0.0/8"; 65].join(",").parse::<Networks>().is_err());
    }

    #[test]
    fn lists_say_what_they_hold() {
        let networks: Networks = "loopback, 10.0.0.0/8".parse().unwrap();
        assert_eq!(networks.to_string(), "127.0.0.0/8,::1/128,10.0.0.0/8");
        assert_eq!(networks.to_string().parse::<Networks>().unwrap(), networks);
        assert!(networks.contains(address("::1")) && networks.contains(address("127.9.9.9")));
        assert!(!networks.contains(address("192.168.0.1")));
        assert!("".parse::<Networks>().unwrap().is_empty());
    }

    #[test]
    fn what_is_not_the_public_internet_is_told_by_its_name() {
        for (text, word) in [
            ("127.0.0.1", "loopback"),
            ("127.255.0.3", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::127.0.0.1", "unspecified"),
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("10.1.2.3", "private"),
            ("172.16.0.1", "private"),
            ("192.168.0.1", "private"),
            ("::ffff:192.168.0.1", "private"),
            ("64:ff9b::a00:1", "private"),
            ("fd00:ec2::254", "private (unique local)"),
            ("100.100.100.200", "shared (carrier NAT)"),
            ("169.254.169.254", "link-local (also cloud metadata)"),
            ("::ffff:169.254.169.254", "link-local (also cloud metadata)"),
            ("168.63.129.16", "a cloud's metadata service"),
            ("192.0.0.192", "reserved"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("2002:7f00:1::", "reserved"),
            ("2001:0:1::1", "reserved"),
            ("64:ff9b:1::1", "reserved"),
            ("2001:db8::1", "for documentation"),
            ("4000::1", "reserved"),
            ("fec0::1", "reserved"),
            ("ff02::1", "multicast"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("203.0.113.9", "for documentation"),
            ("198.19.0.1", "for benchmarks"),
        ] {
            assert_eq!(special(address(text)), Some(word), "{text}");
        }
        for public in
            ["1.1.1.1", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "64:ff9b::808:808", "100.128.0.1"]
        {
            assert_eq!(special(address(public)), None, "{public}");
        }
    }
}
