//! Texts of the command line, taken apart: `K=V`, `GUEST=LOCAL`, names of modules.

use std::path::PathBuf;
use std::str::FromStr;

use crate::spec::{GuestPath, ParseVerifyError, Verify};

/// `K=V`: split at the first `=`; the value may be empty and may hold further ones.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) | None => Err("expected NAME=VALUE".to_owned()),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
    }
}

/// A local file and its place in the guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileInput {
    /// Where the guest finds it.
    pub guest: GuestPath,
    /// What is put there.
    pub local: PathBuf,
}

/// A local directory and its place in the guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirInput {
    /// Where the guest finds it.
    pub guest: GuestPath,
    /// What is put there.
    pub local: PathBuf,
}

fn mount(text: &str) -> Result<(GuestPath, PathBuf), String> {
    let (guest, local) = pair(text).map_err(|_| "expected GUEST=LOCAL, such as /data/a.csv=./a.csv")?;
    if local.is_empty() {
        return Err("the local path is missing".to_owned());
    }
    Ok((guest.parse().map_err(|error: crate::spec::GuestPathError| error.to_string())?, local.into()))
}

impl FromStr for FileInput {
    type Err = String;

    fn from_str(text: &str) -> Result<FileInput, String> {
        mount(text).map(|(guest, local)| FileInput { guest, local })
    }
}

impl FromStr for DirInput {
    type Err = String;

    fn from_str(text: &str) -> Result<DirInput, String> {
        mount(text).map(|(guest, local)| DirInput { guest, local })
    }
}

/// What a user calls a module: a file, a digest, or the first digits of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleRef(pub String);

/// Fewer digits than this are more likely a slip than a name.
pub const PREFIX_DIGITS_MIN: usize = 6;

impl ModuleRef {
    /// The hex digits, if it has the form of a shortened digest (with or without `sha256:`).
    pub fn prefix(&self) -> Option<&str> {
        let digits = self.0.strip_prefix("sha256:").unwrap_or(&self.0);
        let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hex && (PREFIX_DIGITS_MIN..=64).contains(&digits.len())).then_some(digits)
    }
}

impl FromStr for ModuleRef {
    type Err = String;

    fn from_str(text: &str) -> Result<ModuleRef, String> {
        if text.is_empty() {
            return Err("a module is a file, a digest, or the first digits of one".to_owned());
        }
        Ok(ModuleRef(text.to_owned()))
    }
}

/// A policy of verification, or none: the pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOrPool(pub Option<Verify>);

/// Reads a policy, or the word `pool`.
pub fn verify_or_pool(text: &str) -> Result<VerifyOrPool, ParseVerifyError> {
    match text {
        "pool" => Ok(VerifyOrPool(None)),
        text => text.parse().map(|verify| VerifyOrPool(Some(verify))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        assert!(pair("A").is_err() && pair("=b").is_err());
    }

    #[test]
    fn a_file_needs_an_absolute_guest_path_and_a_local_one() {
        let file: FileInput = "/data/a.csv=./x=y.csv".parse().unwrap();
        assert_eq!((file.guest.as_str(), file.local), ("/data/a.csv", PathBuf::from("./x=y.csv")));
        for wrong in ["a=b", "/a", "/a=", "/../a=b", "=b"] {
            assert!(wrong.parse::<DirInput>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_enough_hex_digits_are_a_shortened_digest() {
        let prefix = |text: &str| ModuleRef(text.to_owned()).prefix().map(str::to_owned);
        assert_eq!(prefix("2cf24d"), Some("2cf24d".into()));
        assert_eq!(prefix("sha256:2cf24dba"), Some("2cf24dba".into()));
        for not in ["2cf24", "app.wasm", "2CF24DBA", ""] {
            assert_eq!(prefix(not), None, "{not}");
        }
    }
}
