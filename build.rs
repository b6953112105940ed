//! Puts the web UI where the binary embeds it from: what `web-ui/dist` holds, or a page that says how to build it. What is
//! text is put beside itself as `NAME.br` and `NAME.gz`, where that is shorter.
//!
//! It never runs Node, so that `cargo build` needs nothing but Rust.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Shown instead of the web UI by a binary that was built without it.
const NOTICE: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Lockstep</title>
<h1>Lockstep</h1>
<p>This binary was built without its web UI. To have it, build the UI first, then the binary:</p>
<pre>cd web-ui &amp;&amp; npm ci &amp;&amp; npm run build &amp;&amp; cd .. &amp;&amp; cargo build --release</pre>
<p>The API is there all the same: <a href=\"/openapi.json\">openapi.json</a> describes it.</p>
";

/// Endings of files that are text.
const TEXT: [&str; 8] = ["html", "js", "css", "svg", "json", "txt", "map", "webmanifest"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name));
    let dist = variable("CARGO_MANIFEST_DIR")?.join("web-ui/dist");
    let embedded = variable("OUT_DIR")?.join("web-ui");
    // a path that does not exist makes cargo run this script again and again, so its parent is watched until then
    let watched = if dist.is_dir() { "web-ui/dist" } else { "web-ui" };
    if Path::new(watched).exists() {
        println!("cargo::rerun-if-changed={watched}");
    }
    if embedded.exists() {
        fs::remove_dir_all(&embedded)?;
    }
    fs::create_dir_all(&embedded)?;
    if dist.join("index.html").is_file() {
        copy(&dist, &embedded)
    } else {
        put(&embedded.join("index.html"), NOTICE.as_bytes())
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            put(&target, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Writes a file, and beside it what browsers take instead.
fn put(target: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(target, bytes)?;
    let ending = target.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    if !TEXT.contains(&ending) {
        return Ok(());
    }
    for (suffix, packed) in [("br", brotli(bytes)?), ("gz", gzip(bytes)?)] {
        if packed.len() < bytes.len() {
            fs::write(format!("{}.{suffix}", target.display()), packed)?;
        }
    }
    Ok(())
}

/// At the best quality, with the window that every browser takes.
fn brotli(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = Vec::new();
    let mut writer = brotli::CompressorWriter::new(&mut packed, 64 << 10, 11, 22);
    writer.write_all(bytes)?;
    drop(writer);
    Ok(packed)
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes)?;
    writer.finish()
}
