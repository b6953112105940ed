//! Verbs that use up time, memory, output or files.

use std::io::{self, Write};

use crate::Done;

/// Size of a wasm page.
const PAGE: usize = 65_536;
/// One line of the flood; its length divides a page, so that whole lines are written.
const LINE: &[u8; 16] = b"misbehaving now\n";

/// A chain of multiplications that no compiler can shorten, in `reports` parts with a line after each.
pub fn work(steps: u64, reports: u64) -> Done {
    let mut sum = 0x9e37_79b9_7f4a_7c15u64;
    let mut done = 0;
    for report in 1..=reports.max(1) {
        // In 128 bits, as the product may not fit 64.
        let until = (u128::from(steps) * u128::from(report) / u128::from(reports.max(1))) as u64;
        while done < until {
            sum = (sum ^ done).wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17);
            done += 1;
        }
        if report < reports {
            println!("{done} of {steps} steps");
        }
    }
    println!("{steps} steps, checksum {sum:016x}");
    Ok(())
}

/// One allocation; the memory limit refuses it in the same way everywhere.
pub fn allocate(bytes: usize) -> Done {
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| format!("{bytes} bytes were refused"))?;
    memory.resize(bytes, 0);
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    let pages: usize = std::hint::black_box(&memory).chunks(PAGE).map(|page| usize::from(page[0])).sum();
    println!("allocated {bytes} bytes and touched {pages} pages");
    Ok(())
}

/// The same line again and again, cut off after `bytes`.
pub fn flood(mut bytes: u64) -> Done {
    let lines = LINE.repeat(PAGE / LINE.len());
    let mut out = io::stdout().lock();
    while bytes > 0 {
        let part = bytes.min(lines.len() as u64);
        out.write_all(&lines[..part as usize]).map_err(|why| format!("stdout: {why}"))?;
        bytes -= part;
    }
    out.flush().map_err(|why| format!("stdout: {why}"))
}

/// `/out/file-0001.bin` and so on; each is filled with the low byte of its number.
pub fn write_files(count: u32, bytes: usize) -> Done {
    for number in 1..=count {
        let path = format!("/out/file-{number:04}.bin");
        std::fs::write(&path, vec![number as u8; bytes]).map_err(|why| format!("{path}: {why}"))?;
    }
    println!("wrote {count} files of {bytes} bytes");
    Ok(())
}
