//! Verbs that ask the host: for the time, for random bytes, for input and files.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use crate::Done;

/// A request of 64 KiB shows as much as a larger one.
const RANDOM_MAX: usize = 65_536;

/// Under a virtual clock this returns at once, and says that exactly so much time went by.
pub fn sleep(ms: u64) -> Done {
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(ms));
    println!("slept {} ns", before.elapsed().as_nanos());
    Ok(())
}

/// Seconds since 1970, then the distance of two readings of each clock.
pub fn read_clock() -> Done {
    let since_1970 =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_err(|why| why.to_string());
    let first = since_1970(SystemTime::now())?;
    let second = since_1970(SystemTime::now())?;
    println!("realtime  {}.{:09}", first.as_secs(), first.subsec_nanos());
    println!("realtime  +{} ns", second.saturating_sub(first).as_nanos());
    let before = Instant::now();
    println!("monotonic +{} ns", before.elapsed().as_nanos());
    Ok(())
}

/// In hexadecimal digits, on one line.
pub fn random(count: usize) -> Done {
    if count > RANDOM_MAX {
        return Err(format!("at most {RANDOM_MAX} bytes"));
    }
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).map_err(|why| why.to_string())?;
    println!("{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    Ok(())
}

/// Byte for byte.
pub fn copy_stdin() -> Done {
    io::copy(&mut io::stdin().lock(), &mut io::stdout().lock()).map(drop).map_err(|why| why.to_string())
}

/// In the order in which they came.
pub fn print_args(arguments: &[&str]) -> Done {
    for argument in arguments {
        println!("{argument}");
    }
    Ok(())
}

/// In the host's order.
pub fn print_env() -> Done {
    for (name, value) in std::env::vars_os() {
        println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    Ok(())
}

/// In the host's order: kind (`d`, `f`, `l` or `?`), length in bytes and name.
pub fn list(path: &str) -> Done {
    let fail = |why: io::Error| format!("{path}: {why}");
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let kind = match entry.file_type().map_err(fail)? {
            kind if kind.is_dir() => 'd',
            kind if kind.is_file() => 'f',
            kind if kind.is_symlink() => 'l',
            _ => '?',
        };
        let length = entry.metadata().map_err(fail)?.len();
        println!("{kind} {length:>9} {}", entry.file_name().to_string_lossy());
    }
    Ok(())
}

/// Byte for byte.
pub fn print_file(path: &str) -> Done {
    let fail = |why: io::Error| format!("{path}: {why}");
    let mut file = std::fs::File::open(path).map_err(fail)?;
    io::copy(&mut file, &mut io::stdout().lock()).map(drop).map_err(fail)
}
