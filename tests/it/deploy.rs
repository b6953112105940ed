//! The systemd units in `deploy/`, held to systemd's own judgement where it is there.

use std::path::{Path, PathBuf};
use std::process::Command;

const UNITS: [&str; 2] = ["lockstep.service", "lockstep-worker.service"];
/// What `systemd-analyze security` calls exposed, in tenths; an unhardened unit has 96.
const EXPOSURE_MAX: &str = "25";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// The units as an operator installs them, but with this build's binary.
fn installed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let text = std::fs::read_to_string(deploy().join(unit)).unwrap();
        let text = text.replace("/usr/local/bin/lockstep", env!("CARGO_BIN_EXE_lockstep"));
        std::fs::write(dir.path().join(unit), text).unwrap();
    }
    dir
}

/// Runs `systemd-analyze`; `None`, and a word about it, where there is none.
fn analyze(args: &[&str], units: &Path) -> Option<(bool, String)> {
    let mut command = Command::new("systemd-analyze");
    match command.args(args).args(UNITS.map(|unit| units.join(unit))).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            eprintln!("SKIPPED: systemd-analyze cannot be had here ({error}); apt-get install systemd");
            None
        }
    }
}

#[test]
fn systemd_accepts_the_units() {
    let dir = installed();
    let Some((accepted, text)) = analyze(&["verify", "--man=no"], dir.path()) else { return };
    // it warns of what it ignores without calling that a failure
    let complaints: Vec<_> =
        text.lines().filter(|line| UNITS.iter().any(|unit| line.contains(unit))).collect();
    assert!(accepted && complaints.is_empty(), "{text}");
}

#[test]
fn the_units_are_hardened() {
    let dir = installed();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let args = ["security", "--offline=yes", "--no-pager", &threshold];
    let Some((hardened, text)) = analyze(&args, dir.path()) else { return };
    assert!(hardened, "{text}");
}

#[test]
fn every_setting_that_the_examples_name_exists() {
    let text = std::fs::read_to_string(deploy().join("lockstep.env")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().args(["serve", "--check"]);
    for line in text.lines().map(|line| line.trim_start_matches('#')) {
        if let Some((name, value)) = line.split_once('=').filter(|(name, _)| name.starts_with("LOCKSTEP_")) {
            command.env(name, value);
        }
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("listen = \"0.0.0.0:7070\"") && text.contains("from LOCKSTEP_TLS_KEY"), "{text}");
}
