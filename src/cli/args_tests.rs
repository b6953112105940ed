//! What the grammar takes and refuses.

use super::*;
use clap::CommandFactory;

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_follows_two_dashes_is_the_guests() {
    let line = ["lockstep", "run", "app.wasm", "--quorum", "3", "-e", "A=b=c", "--", "--quorum", "-x"];
    let Command::Run(run) = Cli::try_parse_from(line).unwrap().command else { panic!() };
    assert_eq!(run.args, ["--quorum", "-x"]);
    assert_eq!(run.policy.quorum, Some(3));
    assert_eq!(run.input.env, [("A".to_owned(), "b=c".to_owned())]);
}

#[test]
fn plain_arguments_need_no_dashes() {
    let line = ["lockstep", "run", "primes.wasm", "--entry", "count", "100", "--once", "--", "-7"];
    let Command::Run(run) = Cli::try_parse_from(line).unwrap().command else { panic!() };
    assert_eq!(run.args, ["100", "-7"]);
    assert!(run.policy.once);
}

#[test]
fn contradictions_are_refused() {
    for flags in [
        ["--once", "--quorum=2"],
        ["--detach", "--live"],
        ["--json", "--live"],
        ["--no-durable", "--idempotency-key=k"],
        ["--quorum=1", "--raw"],
        ["--server=http://x", "--file=relative=a"],
    ] {
        let line = ["lockstep", "run", "app.wasm"].into_iter().chain(flags);
        assert!(Cli::try_parse_from(line).is_err(), "{flags:?}");
    }
}

#[test]
fn connection_flags_may_stand_after_a_subcommand() {
    let line = ["lockstep", "modules", "show", "2cf24dba", "--json", "--server", "http://there:1"];
    let Command::Modules(modules) = Cli::try_parse_from(line).unwrap().command else { panic!() };
    assert!(modules.connect.json);
    assert_eq!(modules.connect.server.as_deref(), Some("http://there:1"));
}

#[test]
fn serve_takes_no_client_flags() {
    assert!(Cli::try_parse_from(["lockstep", "serve", "--server", "http://there:1"]).is_err());
}
