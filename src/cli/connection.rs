//! Finds the server, the token, and whom to trust: flag, then environment, then what the server of this machine left in its
//! data directory (`address`, `token`, and `certificate.pem` if it speaks TLS).
//!
//! Invariant: the token from the data directory is sent only to the address in that same directory, so that
//! `--server` never hands this machine's admin token to somebody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::args::ConnectArgs;
use super::error::CliError;
use crate::config::Environment;

/// Where a server that left no address is looked for.
const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";
/// The file in the data directory that holds the server's URL while it runs.
const ADDRESS_FILE: &str = "address";
/// The file in the data directory that holds the admin token.
const TOKEN_FILE: &str = "token";

/// The file in the data directory that holds the server's certificate while it runs in TLS.
const CERTIFICATE_FILE: &str = "certificate.pem";

/// By what a client knows that it talks to the right server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// There is nothing to know: plain HTTP.
    Plaintext,
    /// By a certificate that an authority of this machine's system signed, or the one in the file.
    Authorities(Option<PathBuf>),
    /// By the certificate that the server left in its data directory.
    Own(PathBuf),
}

/// Whom to talk to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// URL without a trailing slash.
    pub server: String,
    /// Bearer token.
    pub token: Option<String>,
    /// Whether this is the server of this machine, found by its data directory.
    pub local: bool,
    /// By what it is known.
    pub trust: Trust,
}

impl Connection {
    /// Decides whom to talk to.
    pub fn find(args: &ConnectArgs, environment: &Environment) -> Result<Connection, CliError> {
        let data = args.data.clone().unwrap_or_else(|| environment.data_dir());
        let own = read_line(&data.join(ADDRESS_FILE)).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        // Naming the data directory on the command line says more than a server in the environment.
        let variable = environment.get("LOCKSTEP_SERVER").filter(|_| args.data.is_none());
        let named = args.server.as_deref().or(variable);
        let server = check_url(named.unwrap_or(&own))?;
        let local = server == own;
        let given = args.token.clone();
        let variable = environment.get("LOCKSTEP_TOKEN").filter(|_| args.data.is_none()).map(str::to_owned);
        let left = || local.then(|| read_line(&data.join(TOKEN_FILE))).flatten();
        let ca = args.ca.clone().or_else(|| environment.get("LOCKSTEP_CA").map(PathBuf::from));
        let certificate = data.join(CERTIFICATE_FILE);
        let trust = match (server.starts_with("https:"), args.ca.is_some()) {
            (false, _) => Trust::Plaintext,
            // a CA that was named for this call is asked for; one of the environment is for other servers
            (true, false) if local && certificate.exists() => Trust::Own(certificate),
            (true, _) => Trust::Authorities(ca),
        };
        Ok(Connection { server, token: given.or(variable).or_else(left), local, trust })
    }
}

fn check_url(text: &str) -> Result<String, CliError> {
    let refuse = |why: &str| CliError::Usage(format!("`{text}` cannot be the server's address: {why}"));
    let url =
        reqwest::Url::parse(text).map_err(|_| refuse("expected a URL such as http://127.0.0.1:7070"))?;
    match url.scheme() {
        "http" | "https" if url.host().is_some() => {}
        _ => return Err(refuse("expected a URL such as http://127.0.0.1:7070")),
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it has a path, a query or a fragment"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn read_line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The URL under which a listener is reached from this machine.
pub fn url_of(listening: SocketAddr, tls: bool) -> String {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("{}://{}", if tls { "https" } else { "http" }, SocketAddr::new(ip, listening.port()))
}

/// The address file of a running server; gone when it stops in order.
#[derive(Debug)]
pub struct AddressFile(PathBuf);

impl AddressFile {
    /// Writes it whole: a client never reads half an address.
    pub fn write(data: &Path, url: &str) -> Result<AddressFile, CliError> {
        let path = data.join(ADDRESS_FILE);
        let part = data.join("address.part");
        std::fs::write(&part, format!("{url}\n")).map_err(CliError::file("write", &part))?;
        std::fs::rename(&part, &path).map_err(CliError::file("write", &path))?;
        Ok(AddressFile(path))
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        // One that stays behind only makes a client say that nobody answers there.
        drop(std::fs::remove_file(&self.0));
    }
}

/// The certificate file of a running server; gone when it stops in order.
#[derive(Debug)]
pub struct CertificateFile(Option<PathBuf>);

impl CertificateFile {
    /// Writes it whole, as PEM of the certificate's bytes.
    pub fn write(data: &Path, certificate: &[u8]) -> Result<CertificateFile, CliError> {
        let path = data.join(CERTIFICATE_FILE);
        let part = data.join("certificate.part");
        let encoded = BASE64.encode(certificate);
        let lines: Vec<_> = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let text = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        std::fs::write(&part, text).map_err(CliError::file("write", &part))?;
        std::fs::rename(&part, &path).map_err(CliError::file("write", &path))?;
        Ok(CertificateFile(Some(path)))
    }

    /// Lets it stay beyond this value.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CertificateFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // One that stays behind is only looked at beside an address in TLS.
            drop(std::fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(TOKEN_FILE), "secret\n").unwrap();
        dir
    }

    fn find(args: ConnectArgs, variables: &[(&str, &str); 2]) -> Connection {
        Connection::find(&args, &Environment::of(*variables)).unwrap()
    }

    #[test]
    fn the_own_server_is_found_by_its_files() {
        let dir = data_dir();
        let file = AddressFile::write(dir.path(), "http://127.0.0.1:4321").unwrap();
        let args = || ConnectArgs { data: Some(dir.path().to_owned()), ..ConnectArgs::default() };
        // The environment speaks of another server, but this one was named by its directory.
        let elsewhere = [("LOCKSTEP_SERVER", "http://there:1"), ("LOCKSTEP_TOKEN", "other")];
        let own = Connection {
            server: "http://127.0.0.1:4321".into(),
            token: Some("secret".into()),
            local: true,
            trust: Trust::Plaintext,
        };
        assert_eq!(find(args(), &elsewhere), own);
        drop(file);
        assert_eq!(find(args(), &elsewhere).server, DEFAULT_SERVER);
    }

    #[test]
    fn the_own_server_is_known_by_the_certificate_that_it_left() {
        let dir = data_dir();
        let address = AddressFile::write(dir.path(), "https://127.0.0.1:4321").unwrap();
        let certificate = CertificateFile::write(dir.path(), &[7; 100]).unwrap();
        let args = |ca: Option<&str>, server: Option<&str>| ConnectArgs {
            data: Some(dir.path().to_owned()),
            ca: ca.map(PathBuf::from),
            server: server.map(str::to_owned),
            ..ConnectArgs::default()
        };
        let variables = [("LOCKSTEP_CA", "/variable.pem"), ("", "")];
        let left = dir.path().join(CERTIFICATE_FILE);
        let trust = |ca, server| find(args(ca, server), &variables).trust;
        assert_eq!(trust(None, None), Trust::Own(left.clone()));
        assert_eq!(trust(Some("/flag.pem"), None), Trust::Authorities(Some("/flag.pem".into())));
        let there = Some("https://there:1");
        assert_eq!(trust(None, there), Trust::Authorities(Some("/variable.pem".into())));
        assert_eq!(trust(None, Some("http://there:1")), Trust::Plaintext);
        drop((address, certificate));
        assert!(!left.exists());
    }

    #[test]
    fn the_stored_token_goes_to_nobody_else() {
        let dir = data_dir();
        let data = dir.path().to_str().unwrap();
        let args = ConnectArgs { server: Some("http://there:7070/".into()), ..ConnectArgs::default() };
        let connection = find(args, &[("LOCKSTEP_DATA", data), ("", "")]);
        let (server, trust) = ("http://there:7070".into(), Trust::Plaintext);
        assert_eq!(connection, Connection { server, token: None, local: false, trust });
    }

    #[test]
    fn a_flag_beats_the_environment() {
        let args = ConnectArgs { token: Some("flag".into()), ..ConnectArgs::default() };
        let connection = find(args, &[("LOCKSTEP_SERVER", "http://there:1"), ("LOCKSTEP_TOKEN", "variable")]);
        assert_eq!(
            (connection.server.as_str(), connection.token.as_deref()),
            ("http://there:1", Some("flag"))
        );
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_at_once() {
        for wrong in ["", "127.0.0.1:7070", "https://", "ftp://there", "http://there/#token=x"] {
            assert!(check_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_reached_by_loopback() {
        assert_eq!(url_of("0.0.0.0:80".parse().unwrap(), false), "http://127.0.0.1:80");
        assert_eq!(url_of("[::]:80".parse().unwrap(), true), "https://[::1]:80");
        assert_eq!(url_of("10.1.2.3:80".parse().unwrap(), false), "http://10.1.2.3:80");
    }
}
