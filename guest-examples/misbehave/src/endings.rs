//! Verbs that end the guest. None of them comes back.

use std::hint::black_box;

/// Ends with `proc_exit`; WASI's codes are 32 bits, a host may not like all of them.
pub fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// The instruction `unreachable`, without a word on standard error.
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

/// Reads the last word below 4 GiB, which lies beyond any memory that a run of default limits has.
#[expect(unsafe_code, reason = "safe Rust cannot leave the memory, and that is the purpose of the verb")]
pub fn read_out_of_bounds() -> ! {
    let address = black_box(u32::MAX as usize - 15) as *const u64;
    // SAFETY: there is none. Where the memory ends before the address the instruction traps; a guest's
    // memory is its own, so nobody else can come to harm.
    let value = unsafe { address.read_volatile() };
    panic!("the memory reaches up to 4 GiB and holds {value:#x} there")
}

/// Deeper and deeper until the stack ends.
pub fn recurse() -> ! {
    panic!("the stack has no end: {}", descend(black_box(0), black_box(u64::MAX)))
}

/// What is done with the answer is neither a tail call nor a sum, so no compiler can make a loop of it. Everything
/// fits registers: with a local in memory the guest's own stack there would end before the engine's.
#[inline(never)]
fn descend(depth: u64, bottom: u64) -> u64 {
    if depth == bottom { depth } else { descend(depth + 1, bottom).rotate_left(depth as u32 & 63) ^ depth }
}

/// No calls, no memory: what can only be ended from outside.
pub fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}
