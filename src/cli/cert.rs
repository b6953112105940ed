//! `lockstep cert`: a private certificate authority and server certificates, as files.
//!
//! Invariants: nothing is overwritten (a renewed certificate replaces its own files whole, certificate and key as a pair that a server checks); keys are never
//! readable by others, not even for a moment.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::args::CertArgs;
use super::error::CliError;
use super::screen::Screen;
use crate::tls::{Authority, Issued};

/// The authority's files.
const CA_FILE: &str = "ca";
/// Who may read a certificate, and who a key.
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Makes what is missing and says how to go on.
pub fn cert(args: &CertArgs) -> Result<u8, CliError> {
    let names = names_of(args)?;
    if !is_file_name(&args.file) {
        let why =
            format!("--file `{}`: a name of letters, digits, `.`, `_` and `-`, and not `ca`", args.file);
        return Err(CliError::Usage(why));
    }
    let [certificate, key] = paths(&args.out, &args.file);
    if !args.renew {
        refuse_existing([&certificate, &key])?;
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&args.out)
        .map_err(CliError::file("make", &args.out))?;
    let [ca, ca_key] = paths(&args.out, CA_FILE);
    let (authority, is_new) = authority(&ca, &ca_key, args.renew)?;
    let issued = authority.issue(&names, args.days)?;
    put(&certificate, &issued.certificate, PUBLIC, args.renew)?;
    put(&key, &issued.key, SECRET, args.renew)?;
    let made = Made { ca, ca_key, is_new, certificate, key, names, issued };
    let screen = Screen::new(false);
    match args.json {
        true => screen.json(&made.json())?,
        false => screen.text(&made.text())?,
    }
    Ok(0)
}

struct Made {
    ca: PathBuf,
    ca_key: PathBuf,
    is_new: bool,
    certificate: PathBuf,
    key: PathBuf,
    names: Vec<String>,
    issued: Issued,
}

impl Made {
    fn not_after(&self) -> String {
        let second = i64::try_from(self.issued.not_after_s).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(second).map(|at| at.to_string()).unwrap_or_default()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "ca": self.ca, "ca_key": self.ca_key, "ca_is_new": self.is_new, "certificate": self.certificate,
            "key": self.key, "names": self.names, "not_after": self.not_after(),
        })
    }

    fn text(&self) -> String {
        let verb = if self.is_new { "made" } else { "used" };
        let [ca, ca_key, certificate, key] =
            [&self.ca, &self.ca_key, &self.certificate, &self.key].map(|path| path.display());
        // the name that was given, if one was; else this machine's
        let host = self.names.first().map_or("localhost", String::as_str);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!(
            "{verb} {ca}  the pool's certificate authority: workers and clients get this file\n\
             {verb} {ca_key}  its key: keep it secret, and off the server\n\
             made {certificate}  for {names}; valid until {until}\n\
             made {key}  its key\n\n\
             Go on with:\n  \
             lockstep serve --listen 0.0.0.0:7070 --tls-cert {certificate} --tls-key {key}\n  \
             lockstep tokens create --name NAME --scope worker --domain NAME\n  \
             lockstep worker --coordinator https://{host}:7070 --token TOKEN --ca {ca}\n  \
             lockstep runs --server https://{host}:7070 --token TOKEN --ca {ca}\n",
            names = self.names.join(", "),
            until = self.not_after(),
        )
    }
}

fn paths(out: &Path, stem: &str) -> [PathBuf; 2] {
    ["pem", "key"].map(|ending| out.join(format!("{stem}.{ending}")))
}

fn is_file_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && !text.starts_with('.') && text != CA_FILE && text.bytes().all(fits)
}

fn refuse_existing(paths: [&PathBuf; 2]) -> Result<(), CliError> {
    match paths.into_iter().find(|path| path.exists()) {
        Some(path) => Err(CliError::Usage(format!(
            "`{}` exists and is not overwritten: --renew replaces it, --file NAME makes another one beside it",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// The authority in the directory, or a new one.
fn authority(ca: &Path, ca_key: &Path, renew: bool) -> Result<(Authority, bool), CliError> {
    match (ca.exists(), ca_key.exists()) {
        (true, true) => Ok((Authority::load(ca, ca_key)?, false)),
        (false, false) if renew => {
            let why = format!("--renew needs the CA that was used before: there is no `{}`", ca.display());
            Err(CliError::Usage(why))
        }
        (false, false) => {
            let (authority, issued) = Authority::make()?;
            put(ca_key, &issued.key, SECRET, false)?;
            put(ca, &issued.certificate, PUBLIC, false)?;
            Ok((authority, true))
        }
        (has_certificate, _) => {
            let (there, missing) = if has_certificate { (ca, ca_key) } else { (ca_key, ca) };
            let [there, missing] = [there, missing].map(|path| path.display());
            let why = format!("there is `{there}`, but no `{missing}`: bring it, or use another directory");
            Err(CliError::Usage(why))
        }
    }
}

/// Writes a file that is not there; or with `replace` puts it, whole, into the place of the one that is.
fn put(path: &Path, text: &str, mode: u32, replace: bool) -> Result<(), CliError> {
    let failed = || CliError::file("write", path);
    let to = if replace { path.with_extension("part") } else { path.to_owned() };
    let mut options = OpenOptions::new();
    options.write(true).mode(mode);
    if replace {
        // a part that an earlier attempt left may have another mode
        drop(std::fs::remove_file(&to));
    }
    let mut file = options.create_new(true).open(&to).map_err(failed())?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed())?;
    if replace {
        std::fs::rename(&to, path).map_err(failed())?;
    }
    Ok(())
}

/// The names that the certificate gets: those that were asked for, then this machine's own.
fn names_of(args: &CertArgs) -> Result<Vec<String>, CliError> {
    for name in &args.names {
        if !is_host(name) {
            let why = format!("--name `{name}`: expected a DNS name or an IP address, without port or path");
            return Err(CliError::Usage(why));
        }
    }
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = own.trim().to_owned();
    let fixed = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let all = args.names.iter().cloned().chain([own].into_iter().filter(|own| is_host(own))).chain(fixed);
    let mut seen = BTreeSet::new();
    Ok(all.filter(|name| seen.insert(name.clone())).collect())
}

/// An address, or a DNS name; `*.` may stand before it.
fn is_host(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts_and_addresses() {
        for good in ["localhost", "pool.example.org", "*.example.org", "10.0.0.5", "::1", "fe80::1", "a-b"] {
            assert!(is_host(good), "{good}");
        }
        let long = "x".repeat(64);
        for wrong in ["", "a b", "http://a", "a:7070", "-a", "a..b", "a/", "*", long.as_str()] {
            assert!(!is_host(wrong), "{wrong}");
        }
    }

    #[test]
    fn files_stay_in_their_directory() {
        assert!(is_file_name("east-1.server"));
        for wrong in ["", "ca", "../server", "a/b", ".hidden"] {
            assert!(!is_file_name(wrong), "{wrong}");
        }
    }
}
