//! Why a handshake failed, in words that tell what to do.

use std::error::Error;
use std::fmt;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// Why a client and a server do not come together; the text begins with `it`, the server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody that is trusted here signed its certificate.
    #[error("its certificate is signed by nobody that this machine trusts")]
    UnknownIssuer,
    /// Its certificate has expired.
    #[error("its certificate has expired")]
    Expired,
    /// Its certificate begins to be valid later.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// Its certificate has other names than the one by which it was reached.
    #[error("its certificate is not for {asked}, but for {}", listed(has))]
    WrongName {
        /// The name by which it was reached.
        asked: String,
        /// The names that the certificate has, some of them.
        has: Vec<String>,
    },
    /// It does not speak TLS.
    #[error("it does not speak TLS")]
    Plaintext,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// Finds the reason in a chain of errors; `None` if it is none of TLS.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Refusal> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(reason) = error.downcast_ref::<rustls::Error>() {
                return Some(Refusal::of_tls(reason));
            }
            // an I/O error does not count what it carries among its sources
            let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            next = match carried {
                Some(carried) => Some(carried),
                None => error.source(),
            };
        }
        None
    }

    fn of_tls(error: &rustls::Error) -> Refusal {
        match error {
            rustls::Error::InvalidCertificate(error) => Refusal::of_certificate(error),
            // the first bytes of an answer in plain HTTP are no record
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Refusal::Plaintext,
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Refusal::Other("it does not speak HTTP/1.1".to_owned())
            }
            other => Refusal::Other(format!("the TLS handshake failed: {other}")),
        }
    }

    fn of_certificate(error: &CertificateError) -> Refusal {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::UnknownIssuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Refusal::NotYetValid
            }
            CertificateError::NotValidForNameContext { expected, presented } => Refusal::WrongName {
                asked: expected.to_str().into_owned(),
                has: presented.iter().map(|name| plain_name(name)).collect(),
            },
            CertificateError::Other(error) => Refusal::Other(error.0.to_string()),
            other => Refusal::Other(format!("its certificate cannot be accepted: {other}")),
        }
    }

    /// What the user of a client command can do.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Refusal::UnknownIssuer => Some(
                "if the pool has a CA of its own, name its certificate with --ca FILE or LOCKSTEP_CA; never accept one \
                 that you did not get from the pool's operator",
            ),
            Refusal::Expired | Refusal::NotYetValid => Some(
                "check this machine's clock; else the operator has to renew the certificate (`lockstep cert` issues one)",
            ),
            Refusal::WrongName { .. } => Some(
                "reach the server by a name that its certificate has, or issue one that has this name (`lockstep cert \
                 --name NAME`)",
            ),
            Refusal::Plaintext => {
                Some("use http:// instead of https://, or start the server with --tls-cert and --tls-key")
            }
            Refusal::Other(_) => None,
        }
    }
}

/// `DnsName("a")` and `IpAddress(b)` without their frames.
fn plain_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    let name = inner.trim_matches('"');
    // addresses come uncompressed
    name.parse::<std::net::IpAddr>().map_or_else(|_| name.to_owned(), |address| address.to_string())
}

fn listed(names: &[String]) -> impl fmt::Display {
    const SHOWN: usize = 6;
    match names {
        [] => "no name at all".to_owned(),
        names if names.len() <= SHOWN => names.join(", "),
        names => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
    }
}
