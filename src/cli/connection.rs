//! Finds the server and the token: flag, then environment, then what the server of this machine left in its data
//! directory (`address` and `token`).
//!
//! Invariant: the token from the data directory is sent only to the address in that same directory, so that
//! `--server` never hands this machine's admin token to somebody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::args::ConnectArgs;
use super::error::CliError;
use crate::config::Environment;

/// Where a server that left no address is looked for.
const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";
/// The file in the data directory that holds the server's URL while it runs.
const ADDRESS_FILE: &str = "address";
/// The file in the data directory that holds the admin token.
const TOKEN_FILE: &str = "token";

/// Whom to talk to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// URL without a trailing slash.
    pub server: String,
    /// Bearer token.
    pub token: Option<String>,
    /// Whether this is the server of this machine, found by its data directory.
    pub local: bool,
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
        Ok(Connection { server, token: given.or(variable).or_else(left), local })
    }
}

fn check_url(text: &str) -> Result<String, CliError> {
    let refuse = |why: &str| CliError::Usage(format!("`{text}` cannot be the server's address: {why}"));
    let url =
        reqwest::Url::parse(text).map_err(|_| refuse("expected a URL such as http://127.0.0.1:7070"))?;
    match url.scheme() {
        "http" if url.host().is_some() => {}
        "https" => return Err(refuse("this build speaks plain HTTP only; use a tunnel or a local proxy")),
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
pub fn url_of(listening: SocketAddr) -> String {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listening.port()))
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
        let own =
            Connection { server: "http://127.0.0.1:4321".into(), token: Some("secret".into()), local: true };
        assert_eq!(find(args(), &elsewhere), own);
        drop(file);
        assert_eq!(find(args(), &elsewhere).server, DEFAULT_SERVER);
    }

    #[test]
    fn the_stored_token_goes_to_nobody_else() {
        let dir = data_dir();
        let data = dir.path().to_str().unwrap();
        let args = ConnectArgs { server: Some("http://there:7070/".into()), ..ConnectArgs::default() };
        let connection = find(args, &[("LOCKSTEP_DATA", data), ("", "")]);
        assert_eq!(connection, Connection { server: "http://there:7070".into(), token: None, local: false });
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
        for wrong in ["", "127.0.0.1:7070", "https://there", "ftp://there", "http://there/#token=x"] {
            assert!(check_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_reached_by_loopback() {
        assert_eq!(url_of("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(url_of("[::]:80".parse().unwrap()), "http://[::1]:80");
        assert_eq!(url_of("10.1.2.3:80".parse().unwrap()), "http://10.1.2.3:80");
    }
}
