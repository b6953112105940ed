//! misbehave: does on demand what a pool must survive.
//!
//! Shows: every way in which a guest ends or fails, each as one verb. What a verb leads to is an outcome, the
//! same on every worker, except for `loop`, which only the timeout of the run ends.
//!
//! ```text
//! lockstep run guest-examples/prebuilt/misbehave.wasm                          # lists the verbs
//! lockstep run guest-examples/prebuilt/misbehave.wasm -- exit 3
//! lockstep run guest-examples/prebuilt/misbehave.wasm -- trap
//! lockstep run guest-examples/prebuilt/misbehave.wasm --timeout 2s -- loop
//! lockstep run guest-examples/prebuilt/misbehave.wasm -- sleep 3600000        # an hour, at once
//! lockstep run guest-examples/prebuilt/misbehave.wasm -- work 5000000000 20   # time to kill its runner
//! ```

mod endings;
mod host;
mod resources;

use std::process::ExitCode;

const USAGE: &str = "usage: misbehave VERB [ARGUMENT...]

endings
  exit CODE               exits with that code
  trap                    executes the instruction `unreachable`
  panic                   panics: a message, then `unreachable`
  oob                     reads beyond the end of its memory
  recurse                 calls itself until the stack ends
  loop                    never ends and never calls its host
resources
  work STEPS [REPORTS]    busy for that many steps, with progress lines in between; prints a checksum
  allocate BYTES          takes that much memory at once and touches every page of it
  flood [BYTES]           writes that much to standard output, without the argument for ever
  write-files N BYTES     writes N files of that size below /out
host
  sleep MS                sleeps, and prints how long that was
  read-clock              prints the time and how far two readings of a clock are apart
  random N                prints N random bytes
  stdin                   copies standard input to standard output
  args [ARGUMENT...]      prints its arguments, one a line
  env                     prints its environment, one variable a line
  ls PATH                 lists a directory
  cat PATH                prints a file";

/// What a verb comes to where it comes back at all; the error is a message for standard error.
type Done = Result<(), String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match perform(&arguments) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(message)) => {
            eprintln!("misbehave: {message}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// None where the arguments are no verb, or not that verb's.
fn perform(arguments: &[&str]) -> Option<Done> {
    Some(match *arguments {
        ["exit", code] => endings::exit(code.parse().ok()?),
        ["trap"] => endings::trap(),
        ["panic"] => panic!("asked to panic"),
        ["oob"] => endings::read_out_of_bounds(),
        ["recurse"] => endings::recurse(),
        ["loop"] => endings::spin(),
        ["work", steps] => resources::work(steps.parse().ok()?, 1),
        ["work", steps, reports] => resources::work(steps.parse().ok()?, reports.parse().ok()?),
        ["allocate", bytes] => resources::allocate(bytes.parse().ok()?),
        ["flood"] => resources::flood(u64::MAX),
        ["flood", bytes] => resources::flood(bytes.parse().ok()?),
        ["write-files", count, bytes] => resources::write_files(count.parse().ok()?, bytes.parse().ok()?),
        ["sleep", ms] => host::sleep(ms.parse().ok()?),
        ["read-clock"] => host::read_clock(),
        ["random", count] => host::random(count.parse().ok()?),
        ["stdin"] => host::copy_stdin(),
        ["args", ref rest @ ..] => host::print_args(rest),
        ["env"] => host::print_env(),
        ["ls", path] => host::list(path),
        ["cat", path] => host::print_file(path),
        _ => return None,
    })
}
