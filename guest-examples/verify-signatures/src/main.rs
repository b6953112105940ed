//! verify-signatures: checks a batch of Ed25519 signatures, the compute-heavy work of a certificate service.
//!
//! Shows: work worth distributing, where a wrong answer would be worse than none: hence a quorum.
//!
//! ```text
//! lockstep run guest-examples/prebuilt/verify-signatures.wasm -- generate 1000 42 > batch.txt
//! lockstep run guest-examples/prebuilt/verify-signatures.wasm --quorum 3 < batch.txt
//! lockstep run guest-examples/prebuilt/verify-signatures.wasm --file /batch.txt=batch.txt -- /batch.txt
//! ```
//!
//! A batch is text, one signature a line: public key (64 hex digits), signature (128) and message (any even
//! number of them, also none), parted by single spaces. Lines that are empty or begin with `#` are skipped. Signatures
//! are numbered from 1. The answer says how many are valid and the numbers of those that are not; a
//! line of another form ends the program with exit code 2, because then the batch is not what the caller meant.
//!
//! `generate COUNT SEED` writes a batch that depends on both numbers only. About one signature in 16 is spoilt.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::ExitCode;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

const USAGE: &str = "usage: verify-signatures [FILE] | verify-signatures generate COUNT SEED";

struct Entry {
    key: [u8; 32],
    signature: [u8; 64],
    message: Vec<u8>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => verify(io::stdin().lock()),
        ["generate", count, seed] => match (count.parse(), seed.parse()) {
            (Ok(count), Ok(seed)) => generate(count, seed).map_err(|why| why.to_string()),
            _ => Err(USAGE.to_owned()),
        },
        [path] if !path.starts_with('-') && path != "generate" => File::open(path)
            .map_err(|why| format!("{path}: {why}"))
            .and_then(|file| verify(BufReader::new(file))),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("verify-signatures: {message}");
            ExitCode::from(2)
        }
    }
}

/// Checks every line of `batch` and prints the answer.
fn verify(batch: impl BufRead) -> Result<(), String> {
    let mut total = 0u64;
    let mut invalid = Vec::new();
    for (index, line) in batch.lines().enumerate() {
        let line = line.map_err(|why| why.to_string())?;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = parse(&line).ok_or_else(|| format!("line {} is no signature", index + 1))?;
        total += 1;
        if !is_valid(&entry) {
            invalid.push(total.to_string());
        }
    }
    println!("signatures {total}");
    println!("valid      {}", total - invalid.len() as u64);
    println!("invalid    {}", invalid.len());
    if !invalid.is_empty() {
        println!("numbers    {}", invalid.join(" "));
    }
    Ok(())
}

/// Strictly: keys and signatures that other implementations may or may not accept are refused.
fn is_valid(entry: &Entry) -> bool {
    VerifyingKey::from_bytes(&entry.key)
        .is_ok_and(|key| key.verify_strict(&entry.message, &Signature::from_bytes(&entry.signature)).is_ok())
}

fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split(' ');
    let key = decode_hex(fields.next()?)?.try_into().ok()?;
    let signature = decode_hex(fields.next()?)?.try_into().ok()?;
    let message = decode_hex(fields.next()?)?;
    fields.next().is_none().then_some(Entry { key, signature, message })
}

/// Writes a batch of `count` signatures with as many keys to standard output.
fn generate(count: u64, seed: u64) -> io::Result<()> {
    let mut random = SplitMix64(seed);
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "# {count} Ed25519 signatures, seed {seed}: public key, signature, message")?;
    for number in 1..=count {
        let mut secret = [0; 32];
        for word in secret.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        let signer = SigningKey::from_bytes(&secret);
        let message = format!("certificate {number} of {count}");
        let mut signature = signer.sign(message.as_bytes()).to_bytes();
        if random.next().is_multiple_of(16) {
            signature[(random.next() % 64) as usize] ^= 1 << (random.next() % 8);
        }
        let key = signer.verifying_key().to_bytes();
        writeln!(out, "{} {} {}", hex(&key), hex(&signature), hex(message.as_bytes()))?;
    }
    out.flush()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): secrets for a demonstration, not for use.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|value| value as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}
