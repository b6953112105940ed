//! The one engine configuration: profiles `det-1` and `det-1-portable`, switch by switch.
//!
//! Every switch that can change what a guest computes, or where it stops, is set here explicitly, also where today's
//! default is the same: a default may move, a profile may not. The compiler child and the runners build their engines
//! from the same function, so an artifact that one makes loads in the other; only the allocator of instances differs,
//! which a guest cannot see.
//!
//! | source of difference | switch | test |
//! |---|---|---|
//! | NaN bits | `det-1`: same machine code for all voters, proven by the class; `det-1-portable`: canonicalised | `nan_bits_are_the_same_on_every_sandbox`, `portable_tests` |
//! | CPU features | explicit target and [`CpuLevel`]; the host's own features are never asked for; `det-1-portable`: the base of the architecture | `the_engine_uses_only_the_features_of_its_level` |
//! | relaxed SIMD | `det-1`: deterministic lowerings; `det-1-portable`: off, see [`features`] | `relaxed_simd_has_one_result`, `portable_code_has_no_relaxed_instructions` |
//! | threads, shared memory | proposal off, built without | `proposals_outside_the_profile_are_refused` |
//! | memory64, GC, exceptions, typed function references, custom page sizes | proposals off | the same |
//! | stack depth | `max_wasm_stack` fixed; exact for one artifact, so in `det-1-portable` only votes of the same machine code are compared about it | `endless_recursion_overflows_at_the_same_depth` |
//! | growth | [`super::limits`]; reservation, guard and pool sizes fixed | `growth_stops_exactly_at_the_limit` |
//! | fuel | one compiler, costs fixed by the engine's version, only in variants that count it | `fuel_is_exact` |
//! | copy-on-write images (cost fuel when off) | on | `fuel_is_exact` |
//! | epochs (wall clock) | off | `no_switch_reads_the_clock_or_the_environment` |
//! | backtraces (environment variable) | off | the same |
//! | engine version, this policy | [`policy`] in the artifact's version string | `an_artifact_of_another_policy_is_refused` |

use std::hash::{Hash as _, Hasher};
use std::sync::OnceLock;

use serde::Serialize;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy, OptLevel,
    PoolingAllocationConfig, RegallocAlgorithm, Strategy, WasmBacktraceDetails, WasmFeatures,
};

use super::{SandboxError, Variant};
use vocabulary::digest::{self, Digest};
use vocabulary::spec::Profile;

/// The engine's version; `Cargo.toml` pins the same one, and a test compares them.
pub const ENGINE_VERSION: &str = "48.0.8";

/// The engine and its version, for people.
pub fn engine_name() -> String {
    format!("wasmtime {ENGINE_VERSION}")
}

/// Names the switches of this file: it changes whenever one of them does.
pub fn policy(profile: Profile) -> &'static str {
    match profile {
        Profile::Det1 => "det-1.0",
        Profile::Det1Portable => "det-1-portable.0",
    }
}

/// Stack that guest code may use, in bytes: twice the engine's default, half of a thread's usual stack.
pub const STACK_BYTES: usize = 1 << 20;
/// The largest memory that a 32-bit guest can have, in bytes; also what is reserved for each.
pub const MEMORY_BYTES_MAX: usize = 4 << 30;
/// Linear memories that one module may define.
pub const MEMORIES_MAX: u32 = 8;
/// Tables that one module may define.
pub const TABLES_MAX: u32 = 8;
/// Elements that one table may hold.
pub const TABLE_ELEMENTS_MAX: usize = 1 << 19;
/// Guard behind each memory, in bytes: accesses with smaller static offsets need no explicit check.
const GUARD_BYTES: u64 = 32 << 20;

/// A runner executes one attempt at a time; the other slots stay warm, each with the image of the module that used
/// it last, so that a runner that serves several modules in turn maps nothing anew.
const INSTANCE_SLOTS: u32 = 32;
const MEMORY_SLOTS: u32 = 64;
const TABLE_SLOTS: u32 = 32;
/// Dirty pages of a memory or table that are cleaned in place instead of being given back, in bytes.
const KEEP_RESIDENT: usize = 1 << 20;
/// Bounds what the engine allocates for one instance besides memories and tables; admission's bounds on functions,
/// globals and imports keep every admitted module below it.
const INSTANCE_BYTES: usize = 32 << 20;

/// The proposals of `det-1`. Everything that is not named here is off.
pub const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::EXTENDED_CONST);

/// The proposals of a profile.
///
/// `det-1-portable` goes without relaxed SIMD, though the lowering is the deterministic one: where a CPU has no fused
/// multiply-add the engine calls a function for it, and the NaNs that come back are not canonicalised (wasmtime 48.0.8).
pub(super) fn features(profile: Profile) -> WasmFeatures {
    match profile {
        Profile::Det1 => FEATURES,
        Profile::Det1Portable => FEATURES.difference(WasmFeatures::RELAXED_SIMD),
    }
}

/// What an engine is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Makes artifacts; instantiates nothing, so reserves nothing.
    Compile,
    /// Executes artifacts.
    Execute,
}

/// A fixed set of CPU features. Machines of one level run the same machine code, whatever else their CPUs can do;
/// the levels are those of the x86-64 psABI.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum CpuLevel {
    /// What every CPU of this architecture has.
    #[serde(rename = "baseline")]
    Baseline,
    /// x86-64-v2: SSE4.2, POPCNT, CMPXCHG16B.
    #[serde(rename = "x86-64-v2")]
    X86V2,
    /// x86-64-v3: AVX2, BMI, FMA, LZCNT.
    #[serde(rename = "x86-64-v3")]
    X86V3,
}

const X86_V2: &[&str] = &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt", "has_cmpxchg16b"];
const X86_V3: &[&str] = &[
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_cmpxchg16b",
    "has_avx",
    "has_avx2",
    "has_bmi1",
    "has_bmi2",
    "has_fma",
    "has_lzcnt",
];

impl CpuLevel {
    /// The highest level that this machine has in full.
    pub fn of_this_machine() -> CpuLevel {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let v2 = has!("sse3")
                && has!("ssse3")
                && has!("sse4.1")
                && has!("sse4.2")
                && has!("popcnt")
                && has!("cmpxchg16b");
            let v3 = v2
                && has!("avx")
                && has!("avx2")
                && has!("bmi1")
                && has!("bmi2")
                && has!("fma")
                && has!("lzcnt");
            if v3 {
                return CpuLevel::X86V3;
            }
            if v2 {
                return CpuLevel::X86V2;
            }
        }
        CpuLevel::Baseline
    }

    /// The code generator's flags of this level, in a fixed order.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            CpuLevel::Baseline => &[],
            CpuLevel::X86V2 => X86_V2,
            CpuLevel::X86V3 => X86_V3,
        }
    }
}

/// The CPU features that machine code of a variant may use on this machine.
pub(super) fn level(variant: Variant) -> CpuLevel {
    match variant.profile() {
        Profile::Det1 => CpuLevel::of_this_machine(),
        // all of them must be able to execute it
        Profile::Det1Portable => CpuLevel::Baseline,
    }
}

/// The target triple, explicit because naming it is what turns the detection of host features off.
pub(super) fn target() -> String {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-unknown-linux-{libc}", std::env::consts::ARCH)
}

/// Builds an engine of the variant's profile for CPUs of a [`level`].
pub(super) fn build(role: Role, variant: Variant, level: CpuLevel) -> wasmtime::Result<Engine> {
    Engine::new(&config(role, variant, level, policy(variant.profile()))?)
}

/// The switches. `policy` is a parameter only so that a test can make a foreign artifact.
fn config(role: Role, variant: Variant, level: CpuLevel, policy: &str) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .target(&target())?
        .module_version(ModuleVersionStrategy::Custom(format!("{ENGINE_VERSION}/{policy}")))?;
    code_generation(&mut config, variant.profile(), level);
    config.consume_fuel(variant.is_fueled()).epoch_interruption(false);

    let features = features(variant.profile());
    config.wasm_features(WasmFeatures::all(), false).wasm_features(features, true);
    config.relaxed_simd_deterministic(true).wasm_branch_hinting(false).shared_memory(false);

    config
        .max_wasm_stack(STACK_BYTES)
        .signals_based_traps(true)
        .memory_reservation(MEMORY_BYTES_MAX as u64)
        .memory_reservation_for_growth(0)
        .memory_may_move(false)
        .memory_guard_size(GUARD_BYTES)
        .guard_before_linear_memory(true)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(16 << 20)
        .table_lazy_init(true);

    config
        .wasm_backtrace_max_frames(None)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false)
        .native_unwind_info(false)
        .debug_info(false)
        .debug_symbols(false)
        .concurrency_support(false);

    config.allocation_strategy(match role {
        Role::Compile => InstanceAllocationStrategy::OnDemand,
        Role::Execute => InstanceAllocationStrategy::Pooling(pool()),
    });
    Ok(config)
}

fn code_generation(config: &mut Config, profile: Profile, level: CpuLevel) {
    config
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        .cranelift_nan_canonicalization(profile == Profile::Det1Portable)
        .cranelift_debug_verifier(false)
        .compiler_inlining(wasmtime::Inlining::No);
    for flag in level.flags() {
        #[expect(
            unsafe_code,
            reason = "the engine calls its flags unsafe because some change how code must be called. These only name CPU \
                      features, and the engine refuses to load code for features that the host lacks"
        )]
        // SAFETY: see the reason; the flags are the constants above.
        unsafe {
            config.cranelift_flag_enable(flag);
        }
    }
}

/// Slots for instances; nothing here is visible to a guest but the three maxima that admission repeats.
fn pool() -> PoolingAllocationConfig {
    // Without the ioctl (Linux 6.7) keeping pages resident costs more than it saves.
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let keep = if scan { KEEP_RESIDENT } else { 0 };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(INSTANCE_SLOTS)
        .max_core_instance_size(INSTANCE_BYTES)
        .total_memories(MEMORY_SLOTS)
        .max_memories_per_module(MEMORIES_MAX)
        .max_memory_size(MEMORY_BYTES_MAX)
        .total_tables(TABLE_SLOTS)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_unused_warm_slots(MEMORY_SLOTS)
        .decommit_batch_size(1)
        .linear_memory_keep_resident(keep)
        .table_keep_resident(keep)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool
}

/// Digest of everything that decides whether an artifact loads: version, compiler flags, tunables and features.
/// Equal for every engine of one variant on machines of one [`CpuLevel`]; of the portable ones on all of an architecture.
///
/// # Errors
///
/// [`SandboxError::Engine`] if the engine cannot be built here.
pub fn compatibility(variant: Variant) -> Result<Digest, SandboxError> {
    static KNOWN: [OnceLock<Digest>; Variant::ALL.len()] = [const { OnceLock::new() }; Variant::ALL.len()];
    let known = &KNOWN[variant as usize];
    if let Some(digest) = known.get() {
        return Ok(*digest);
    }
    let engine = build(Role::Compile, variant, level(variant))
        .map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
    Ok(*known.get_or_init(|| compatibility_of(&engine)))
}

fn compatibility_of(engine: &Engine) -> Digest {
    let mut hasher = StableHasher(digest::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finish()
}

/// SHA-256 behind the standard trait: the standard hashers are free to differ between releases of the language.
struct StableHasher(digest::Hasher);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finish();
        let (head, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
        u64::from_be_bytes(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_the_one_that_the_manifest_pins() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{ENGINE_VERSION}\"\n")));
    }

    #[test]
    fn compiling_and_executing_engines_agree() {
        let mut all = std::collections::BTreeSet::new();
        for variant in Variant::ALL {
            let compile = build(Role::Compile, variant, level(variant)).unwrap();
            let execute = build(Role::Execute, variant, level(variant)).unwrap();
            assert_eq!(compatibility_of(&compile), compatibility_of(&execute));
            assert_eq!(compatibility_of(&compile), compatibility(variant).unwrap());
            all.insert(compatibility_of(&compile));
        }
        assert_eq!(all.len(), Variant::ALL.len());
    }

    #[test]
    fn the_engine_uses_only_the_features_of_its_level() {
        let engine = build(Role::Compile, Variant::Plain, CpuLevel::Baseline).unwrap();
        let mut flags = engine.get_cranelift_flags_enabled();
        assert!(flags.all(|flag| !flag.starts_with("has_")));
        for variant in [Variant::Portable, Variant::PortableFueled] {
            assert_eq!(level(variant), CpuLevel::Baseline);
        }
        // A level is part of what an artifact is compatible with.
        let of = |level| compatibility_of(&build(Role::Compile, Variant::Plain, level).unwrap());
        if cfg!(target_arch = "x86_64") {
            assert_ne!(of(CpuLevel::Baseline), of(CpuLevel::X86V2));
            assert_ne!(of(CpuLevel::X86V2), of(CpuLevel::X86V3));
        }
    }

    #[test]
    fn no_switch_reads_the_clock_or_the_environment() {
        let engine = build(Role::Execute, Variant::Plain, CpuLevel::of_this_machine()).unwrap();
        assert!(!engine.get_epoch_interruption());
        assert!(!engine.get_consume_fuel());
        assert_eq!(engine.get_wasm_backtrace_max_frames(), 0);
        assert_eq!(engine.get_wasm_features(), FEATURES);
        assert_eq!(engine.get_cranelift_nan_canonicalization(), Some(false));
        let portable = build(Role::Execute, Variant::Portable, CpuLevel::Baseline).unwrap();
        assert_eq!(portable.get_cranelift_nan_canonicalization(), Some(true));
        assert!(!portable.get_wasm_features().contains(WasmFeatures::RELAXED_SIMD));
        assert!(engine.get_relaxed_simd_deterministic());
        assert!(!engine.get_shared_memory());
    }

    #[test]
    fn an_artifact_of_another_policy_is_refused() {
        let sandbox = crate::Sandbox::new().unwrap();
        for variant in Variant::ALL {
            let foreign = config(Role::Compile, variant, level(variant), "det-0").unwrap();
            let artifact = Engine::new(&foreign).unwrap().precompile_module(b"\0asm\x01\0\0\0").unwrap();
            let loaded = sandbox.load_file(&crate::testing::file(&artifact), variant);
            assert!(matches!(loaded, Err(SandboxError::Artifact(_))), "{:?}", loaded.err());
        }
        // NaN canonicalisation is not among what the engine itself checks when it loads
        let plain = crate::compile(b"\0asm\x01\0\0\0", Variant::Plain).unwrap();
        let loaded = sandbox.load_file(&crate::testing::file(&plain), Variant::Portable);
        assert!(matches!(loaded, Err(SandboxError::Artifact(_))), "{:?}", loaded.err());
    }
}
