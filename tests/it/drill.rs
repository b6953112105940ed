//! `lockstep drill`: real processes that lie, in each of the ways, and what becomes of them.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{children, eventually, is_running, signal};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().arg("drill").args(args);
    command
}

fn figures(args: &[&str]) -> Value {
    let output: Output = command(args).arg("--json").output().expect("the binary starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let figures: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    println!("{figures}");
    figures
}

/// What holds with an arbiter, whoever lies and how.
fn check(figures: &Value, runs: u64, attempts_per_run: u64) {
    assert_eq!(figures["runs"], runs, "{figures}");
    assert_eq!(figures["no_verdict"], 0, "{figures}");
    assert_eq!(figures["honest_blamed"], 0, "{figures}");
    assert!(figures["attempts"].as_u64() <= Some(runs * attempts_per_run), "{figures}");
    assert!(figures["attempts"].as_u64() >= Some(runs), "{figures}");
}

const CREW: [&str; 6] = ["--workers", "8", "--liars", "25%", "--runs", "200"];

/// How soon they are caught is chance: they are asked less once others are proven. Of three rounds one is quick.
#[test]
fn colluders_that_always_lie_get_nothing_past() {
    let is_quick = |seed: &str| {
        let figures = figures(&[&CREW[..], &["--behaviour", "colluding", "--seed", seed]].concat());
        check(&figures, 200, 5);
        assert_eq!(
            (&figures["wrong_exposed"], &figures["wrong_after_repair"]),
            (&json!(0), &json!(0)),
            "{figures}"
        );
        assert_eq!((&figures["liars"], &figures["liars_caught"]), (&json!(2), &json!(2)), "{figures}");
        figures["last_caught_after"].as_u64() <= Some(100)
    };
    assert!(["1", "2", "3"].into_iter().any(is_quick), "none of three rounds caught both within 100 runs");
}

#[test]
fn those_who_lie_alone_get_nothing_past() {
    for behaviour in ["lone", "parroting"] {
        let figures = figures(&[&CREW[..], &["--behaviour", behaviour]].concat());
        check(&figures, 200, 5);
        assert_eq!(figures["wrong_exposed"], 0, "{figures}");
        assert_eq!(figures["liars_caught"], 2, "{figures}");
    }
}

/// Nine honest votes are nine confirmations at most, and with fewer than ten nobody is proven: a group of such workers is
/// checked by the arbiter, whatever it says.
const TOO_FEW_TO_BE_TRUSTED: &str = "9";

#[test]
fn sleepers_that_wake_before_they_are_trusted_get_nothing_past() {
    let sleeping = ["--behaviour", "sleeping", "--honest-for", TOO_FEW_TO_BE_TRUSTED];
    // a suspect is asked less, so it takes a while until the second one lies twice
    let figures = figures(&[&CREW[..4], &["--runs", "400"], &sleeping].concat());
    check(&figures, 400, 5);
    assert_eq!(
        (&figures["wrong_exposed"], &figures["wrong_after_repair"]),
        (&json!(0), &json!(0)),
        "{figures}"
    );
    assert_eq!(figures["liars_caught"], 2, "{figures}");
    // it lies in its tenth run at the earliest, and no more than seven of those are in flight then
    assert!(figures["last_caught_after"].as_u64() >= Some(3), "they were honest before: {figures}");
}

#[test]
fn liars_of_every_kind_at_once_get_nothing_past() {
    // one of each way, seven honest ones
    let crew = ["--workers", "12", "--liars", "42%", "--behaviour", "mixed", "--runs", "300"];
    let figures = figures(&[&crew[..], &["--honest-for", TOO_FEW_TO_BE_TRUSTED]].concat());
    check(&figures, 300, 5);
    assert_eq!(figures["behaviour"], "mixed", "{figures}");
    assert_eq!(
        (&figures["wrong_exposed"], &figures["wrong_after_repair"]),
        (&json!(0), &json!(0)),
        "{figures}"
    );
    // the sleeper and the one that colludes name the same; the one that parrots is right every second time
    assert_eq!((&figures["liars"], &figures["liars_caught"]), (&json!(5), &json!(5)), "{figures}");
}

#[test]
fn a_flipped_bit_is_noticed() {
    let flips = figures(&[&CREW[..], &["--behaviour", "random", "--rate", "5%"]].concat());
    check(&flips, 200, 5);
    assert_eq!(flips["wrong_exposed"], 0, "{flips}");
}

#[test]
fn a_fixed_quorum_believes_two_who_agree() {
    // the baseline that the drill is there to show
    let args =
        ["--workers", "8", "--liars", "75%", "--runs", "60", "--policy", "quorum:2", "--arbiters", "0"];
    let figures = figures(&args);
    assert!(figures["wrong_exposed"].as_u64() > Some(0), "{figures}");
    let output =
        command(&["--workers", "2", "--liars", "0%", "--runs", "5", "--policy", "once"]).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("wrong results exposed  0 (0.00 %)\n"), "{table}");
    assert!(table.contains("attempts per run       1.000\n"), "{table}");
}

#[tokio::test]
async fn an_interrupted_drill_leaves_no_process() {
    let mut drill = command(&["--workers", "3", "--runs", "100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut processes = eventually("coordinator and workers are there", async || {
        let processes = children(drill.id());
        (processes.len() == 4).then_some(processes)
    })
    .await;
    processes.extend(processes.clone().into_iter().flat_map(children));
    signal(drill.id(), "INT");
    let status = eventually("the drill ends", async || drill.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(118));
    eventually("its processes are gone", async || {
        processes.iter().all(|pid| !is_running(*pid)).then_some(())
    })
    .await;
}
