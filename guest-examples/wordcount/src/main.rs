//! wordcount: counts lines, words and bytes, and lists the most frequent words.
//!
//! Shows: an ordinary program over standard input, or over files that were put into the run.
//!
//! ```text
//! lockstep run guest-examples/prebuilt/wordcount.wasm < README.md
//! lockstep run guest-examples/prebuilt/wordcount.wasm --file /data/a.txt=README.md -- -n 3 /data/a.txt
//! ```
//!
//! Arguments: `[-n COUNT] [FILE...]`; COUNT words are listed, 10 by default. Words are counted as `wc` does, at
//! white space; the list ignores case and punctuation. The words live in a `HashMap`, whose order depends on
//! random keys: the list is sorted, so the answer would be the same even where randomness is not seeded.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;

/// How many words are listed unless `-n` says otherwise.
const LISTED: usize = 10;

#[derive(Default)]
struct Count {
    lines: u64,
    words: u64,
    bytes: u64,
}

struct Arguments {
    listed: usize,
    files: Vec<String>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("wordcount: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { listed: LISTED, files: Vec::new() };
    while let Some(argument) = given.next() {
        if argument == "-n" {
            let count = given.next().ok_or("-n needs a number")?;
            arguments.listed = count.parse().map_err(|_| format!("`{count}` is no number of words"))?;
        } else {
            arguments.files.push(argument);
        }
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let mut frequencies = HashMap::new();
    let mut counts = Vec::new();
    if arguments.files.is_empty() {
        let count = count(io::stdin().lock(), &mut frequencies).map_err(|why| format!("stdin: {why}"))?;
        counts.push(("-", count));
    }
    for path in &arguments.files {
        let file = File::open(path).map_err(|why| format!("{path}: {why}"))?;
        let count = count(BufReader::new(file), &mut frequencies).map_err(|why| format!("{path}: {why}"))?;
        counts.push((path, count));
    }
    print(&counts, frequencies, arguments.listed).map_err(|why| format!("stdout: {why}"))
}

/// Reads to the end, and adds each word to `frequencies`.
fn count(mut input: impl BufRead, frequencies: &mut HashMap<String, u64>) -> io::Result<Count> {
    let mut count = Count::default();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        count.bytes += line.len() as u64;
        count.lines += u64::from(line.ends_with(b"\n"));
        // Bytes that are no UTF-8 are counted too, as replacement characters.
        let text = String::from_utf8_lossy(&line);
        count.words += text.split_whitespace().count() as u64;
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '\'') {
            let word = word.trim_matches('\'');
            if !word.is_empty() {
                *frequencies.entry(word.to_lowercase()).or_default() += 1;
            }
        }
        line.clear();
    }
    Ok(count)
}

fn print(counts: &[(&str, Count)], frequencies: HashMap<String, u64>, listed: usize) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "{:>9} {:>9} {:>9}", "lines", "words", "bytes")?;
    for (name, count) in counts {
        writeln!(out, "{:>9} {:>9} {:>9}  {name}", count.lines, count.words, count.bytes)?;
    }
    let mut ranking: Vec<(String, u64)> = frequencies.into_iter().collect();
    // Equally frequent words follow the alphabet.
    ranking.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    if listed > 0 && !ranking.is_empty() {
        writeln!(out)?;
    }
    for (word, times) in ranking.iter().take(listed) {
        writeln!(out, "{times:>9} {word}")?;
    }
    out.flush()
}
