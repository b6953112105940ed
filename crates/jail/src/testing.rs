//! For tests of what cannot be undone: a test starts itself again as a process of its own.

use std::process::{Command, ExitStatus};

const ROLE: &str = "LOCKSTEP_TEST_IN_ITS_OWN_PROCESS";

/// Runs `body` in a process of its own that runs the test `name` only, and says how that process ended.
pub fn in_its_own_process(name: &str, body: impl FnOnce()) -> ExitStatus {
    if std::env::var_os(ROLE).is_some() {
        body();
        std::process::exit(0);
    }
    let exe = std::env::current_exe().expect("the path of this test");
    let output = Command::new(exe)
        .args(["--exact", name, "--nocapture"])
        .env(ROLE, "1")
        .output()
        .expect("it starts again");
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    output.status
}
