//! Where callbacks may go. The URL comes from whoever submits runs, and the request is made from the coordinator's own place
//! in the network: so nothing of that place is reachable unless the operator says so.
//!
//! Invariants: every address that a connection is made to was judged by [`Rules::judge`] first. A name is resolved once, by
//! [`Resolver`], and the connection goes to exactly the addresses that were judged; a name of which one address is refused
//! is refused as a whole. What is not public, and plain HTTP, goes only where `callback_allow` says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::network::{Networks, special};

/// The longest URL that is taken, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// Why nothing is sent to an address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It is not of the public internet.
    #[error(
        "{address} is {what}: callbacks go to public addresses only, unless the operator allows others with \
         --callback-allow"
    )]
    Special {
        /// The address, or the name of the machine itself.
        address: String,
        /// What it is.
        what: &'static str,
    },
    /// It would travel in the clear.
    #[error(
        "plain http would show the run to everybody on the way to {address}: use https, or let the operator allow that \
         address with --callback-allow"
    )]
    Plaintext {
        /// The address or name.
        address: String,
    },
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// What every name shows its sender that leads nowhere: which names are known inside, and their addresses, are the
    /// operator's business.
    #[error(
        "its name leads to no address that callbacks may be sent to (the coordinator's log says why; --callback-allow \
         allows addresses that are not public)"
    )]
    Name,
}

/// A URL that a callback may have, as far as can be told without asking anybody.
///
/// # Errors
///
/// What is wrong with it, for people.
pub fn parse(text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("it has {} bytes; the URL of a callback may have {URL_BYTES_MAX}", text.len()));
    }
    let url = Url::parse(text).map_err(|error| format!("it is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("its scheme is `{}`: a callback goes to https:// or http://", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user name or password, which everybody could read who reads the run: \
                    the receiver knows us by the signature"
            .to_owned());
    }
    if url.fragment().is_some() {
        return Err("a fragment (`#…`) is never sent: leave it out".to_owned());
    }
    if url.port() == Some(0) {
        return Err("there is no port 0".to_owned());
    }
    // the store tells receivers apart by what stands between `//` and the next `/`
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(format!("written out it has more than {URL_BYTES_MAX} bytes"));
    }
    Ok(url)
}

/// What an operator allows beyond the public internet over TLS.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    allowed: Networks,
}

impl Rules {
    /// Allows these networks too, in plain HTTP as well.
    pub fn new(allowed: Networks) -> Rules {
        Rules { allowed }
    }

    /// Whether something may be sent to this address.
    pub fn judge(&self, address: IpAddr, is_https: bool) -> Result<(), Refused> {
        if self.allowed.contains(address) {
            return Ok(());
        }
        let named = || address.to_canonical().to_string();
        match special(address) {
            Some(what) => Err(Refused::Special { address: named(), what }),
            None if is_https => Ok(()),
            None => Err(Refused::Plaintext { address: named() }),
        }
    }

    /// What can be told of a URL before its name is resolved: addresses that it names, names of the machine itself, and
    /// plain HTTP where no address at all is allowed.
    pub fn judge_url(&self, url: &Url) -> Result<(), Refused> {
        let is_https = url.scheme() == "https";
        let host = url.host_str().unwrap_or_default();
        if let Some(address) = literal(url) {
            return self.judge(address, is_https);
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            return self
                .judge(Ipv4Addr::LOCALHOST.into(), is_https)
                .map_err(|_| Refused::Special { address: name, what: "loopback" });
        }
        match is_https || !self.allowed.is_empty() {
            true => Ok(()),
            false => Err(Refused::Plaintext { address: host.to_owned() }),
        }
    }

    /// The addresses of a name, if each may be sent to.
    fn admit(&self, found: Vec<SocketAddr>, is_https: bool) -> Result<Vec<SocketAddr>, Refused> {
        if found.is_empty() {
            return Err(Refused::NoAddress);
        }
        for address in &found {
            self.judge(address.ip(), is_https)?;
        }
        Ok(found)
    }
}

/// The address that a URL names by itself: then nobody resolves anything.
pub fn literal(url: &Url) -> Option<IpAddr> {
    // in its normal form: `0x7f.1` and `2130706433` are 127.0.0.1 by now
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Gives an HTTP client exactly those addresses of a name that were judged.
pub struct Resolver {
    /// What is allowed.
    pub rules: Arc<Rules>,
    /// Whether it is asked for connections that speak TLS.
    pub is_https: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, is_https) = (Arc::clone(&self.rules), self.is_https);
        Box::pin(async move {
            let refuse = |why: &dyn std::fmt::Display| {
                tracing::info!(name = name.as_str(), %why, "a callback's name leads nowhere");
                Refused::Name
            };
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|error| refuse(&error))?;
            let admitted = rules.admit(found.collect(), is_https).map_err(|refused| refuse(&refused))?;
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allowed: &str) -> Rules {
        Rules::new(allowed.parse().unwrap())
    }

    fn judged(rules: &Rules, url: &str) -> Result<(), String> {
        rules.judge_url(&parse(url)?).map_err(|error| error.to_string())
    }

    #[test]
    fn only_plain_urls_are_taken() {
        for wrong in [
            "",
            "example.org/hook",
            "ftp://example.org/",
            "file:///etc/passwd",
            "https://ada:secret@example.org/",
            "https://ada@example.org/",
            "https://example.org/#x",
            "https://example.org:0/",
            "https://",
            "http://[::1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&format!("https://example.org/{}", "x".repeat(URL_BYTES_MAX))).is_err());
        // long only once it is written out
        assert!(parse(&format!("https://example.org/{}", "ü".repeat(800))).is_err());
        assert_eq!(parse("https://Example.org?x=1").unwrap().as_str(), "https://example.org/?x=1");
    }

    #[test]
    fn whatever_spelling_an_address_has_it_is_that_address() {
        let strict = rules("");
        for url in [
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://017700000001/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost:8443/x",
            "https://10.0.0.1/",
            "https://[64:ff9b::a00:1]/",
            "https://169.254.169.254/latest/meta-data/",
            "https://[fd00:ec2::254]/",
            "https://0.0.0.0/",
            "https://[::]/",
        ] {
            let refused = judged(&strict, url).unwrap_err();
            assert!(refused.contains("--callback-allow"), "{url}: {refused}");
        }
        for url in ["https://example.org/", "https://1.1.1.1/", "https://[2606:4700::1111]/"] {
            assert_eq!(judged(&strict, url), Ok(()), "{url}");
        }
        let refused = judged(&strict, "https://[::ffff:169.254.169.254]/").unwrap_err();
        assert!(refused.starts_with("169.254.169.254 is link-local (also cloud metadata)"), "{refused}");
    }

    #[test]
    fn plain_http_goes_only_where_the_operator_says() {
        for url in ["http://example.org/", "http://1.1.1.1/"] {
            assert!(judged(&rules(""), url).unwrap_err().starts_with("plain http"), "{url}");
        }
        let own = rules("10.1.0.0/16,loopback");
        for url in [
            "http://10.1.2.3/",
            "https://10.1.2.3/",
            "http://127.0.0.1:9/",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert_eq!(judged(&own, url), Ok(()), "{url}");
        }
        assert!(judged(&own, "http://1.1.1.1/").is_err() && judged(&own, "https://10.2.0.1/").is_err());
        // this name may have an address that is allowed: it is judged when it is resolved
        assert_eq!(judged(&own, "http://hooks.internal/"), Ok(()));
        let found = |text: &str| vec![SocketAddr::new(text.parse().unwrap(), 0)];
        assert!(own.admit(found("10.1.9.9"), false).is_ok());
        assert!(matches!(own.admit(found("1.1.1.1"), false), Err(Refused::Plaintext { .. })));
    }

    #[test]
    fn one_bad_address_spoils_a_name() {
        let good = SocketAddr::new("1.1.1.1".parse().unwrap(), 0);
        let bad = SocketAddr::new("::ffff:10.0.0.1".parse().unwrap(), 0);
        let rules = rules("");
        assert_eq!(rules.admit(vec![good], true), Ok(vec![good]));
        let refused = rules.admit(vec![good, bad], true).unwrap_err();
        assert_eq!(refused, Refused::Special { address: "10.0.0.1".to_owned(), what: "private" });
        assert_eq!(rules.admit(vec![], true), Err(Refused::NoAddress));
    }

    #[tokio::test]
    async fn a_name_of_the_machine_itself_is_refused_when_it_is_resolved() {
        let resolver = |allowed| Resolver { rules: Arc::new(rules(allowed)), is_https: true };
        let Err(refused) = resolver("").resolve("localhost".parse().unwrap()).await else {
            panic!("it is loopback");
        };
        // which address it is nobody is told who may not know
        assert_eq!(refused.downcast_ref(), Some(&Refused::Name), "{refused}");
        let found: Vec<_> =
            resolver("loopback").resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
    }
}
