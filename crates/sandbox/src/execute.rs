//! Loads artifacts and executes attempts.
//!
//! Each attempt gets a store of its own, which is dropped whole when it ends, however it ends. Nothing that a guest
//! did is left for the next one but dirty pages that the pool resets before they are used again.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use wasmtime::{Engine, Extern, Func, InstancePre, Linker, Module, Store, Val};

use super::engine::{self, CpuLevel, MEMORY_BYTES_MAX, Role};
use super::limits::Limiter;
use super::values::{self, NumericType};
use super::vfs::MountError;
use super::wasi::{self, WasiConfig, WasiOutput, WasiState};
use super::{Execution, FunctionType, Invocation, LiveOutput, SandboxError, Variant, outcome};
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::{DEFAULT_ENTRY, Limits};

/// What a reactor exports to be called once before anything else.
pub const REACTOR_START: &str = "_initialize";
/// A page of linear memory, in bytes.
const PAGE_BYTES: u64 = 1 << 16;

/// System calls that loading and executing make beyond memory management and descriptors that are open: what a jail has
/// to allow around [`Sandbox::load_file`] and [`Sandbox::execute`].
pub const SYSTEM_CALLS: &[jail::Call] = &[
    // Duplicates the artifact's descriptor, and in a debug build looks whether it is open before it is closed.
    jail::Call::only(libc::SYS_fcntl, 1, &[libc::F_DUPFD_CLOEXEC as u64, libc::F_GETFD as u64]),
    // Asks for its size. It could ask for the size of any file by its path, but not open one.
    jail::Call::any(libc::SYS_statx),
    // Asks the kernel which pages of a memory are dirty.
    jail::Call::only(libc::SYS_ioctl, 1, &[PAGEMAP_SCAN]),
];

/// `_IOWR('f', 16, struct pm_scan_arg)` of `linux/fs.h`.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// The state behind one instance.
struct Guest {
    wasi: WasiState,
    limiter: Limiter,
}

impl AsMut<WasiState> for Guest {
    fn as_mut(&mut self) -> &mut WasiState {
        &mut self.wasi
    }
}

/// One engine with the host functions.
struct Host {
    engine: Engine,
    linker: Linker<Guest>,
}

/// Every host function by module and name, with its type as text: what admission compares imports with. Taken from
/// the linker itself, so that the two cannot differ.
pub(super) fn offered() -> &'static BTreeMap<(String, String), String> {
    static OFFERED: LazyLock<BTreeMap<(String, String), String>> = LazyLock::new(|| {
        list_offered().expect("the engine and its host functions are the same on every machine")
    });
    &OFFERED
}

fn list_offered() -> Result<BTreeMap<(String, String), String>, Box<dyn std::error::Error>> {
    let engine = engine::build(Role::Compile, Variant::Plain, CpuLevel::of_this_machine())?;
    let linker = linker(&engine)?;
    let wasi = WasiState::new(WasiConfig {
        args: Vec::new(),
        env: Vec::new(),
        stdin: Bytes::new(),
        mounts: Vec::new(),
        clock_ns: 0,
        seed: 0,
        limits: Limits::default(),
        live: None,
    })?;
    let mut store = Store::new(&engine, Guest { wasi, limiter: Limiter::new(0, 0) });
    let names: Vec<_> = linker
        .iter(&mut store)
        .map(|(module, name, item)| (module.to_owned(), name.to_owned(), item))
        .collect();
    let function = |(module, name, item): (String, String, Extern)| {
        let ty = item.into_func()?.ty(&store);
        let text =
            |types: &mut dyn Iterator<Item = wasmtime::ValType>| types.map(|ty| ty.to_string()).collect();
        let ty = FunctionType { params: text(&mut ty.params()), results: text(&mut ty.results()) };
        Some(((module, name), ty.to_string()))
    };
    Ok(names.into_iter().filter_map(function).collect())
}

/// The host functions: WASI preview 1 and nothing else.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Executes guests. Build it before the process is confined: it opens the kernel's page map once.
pub struct Sandbox {
    /// By variant. All are built before the process is confined, which could not do it any more.
    hosts: [OnceLock<Host>; Variant::ALL.len()],
    level: fn(Variant) -> CpuLevel,
}

/// An artifact in memory, ready to be instantiated any number of times.
pub struct Loaded {
    pre: InstancePre<Guest>,
    variant: Variant,
    /// Memories and tables that the module defines.
    spaces: u64,
    /// The largest memory that it declares, in bytes.
    largest_memory: u64,
}

impl Sandbox {
    /// Builds the engines: address space only, about a millisecond.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Engine`] if this machine cannot carry them (no address space, an unknown architecture).
    pub fn new() -> Result<Sandbox, SandboxError> {
        let sandbox = Sandbox::at(engine::level);
        for variant in Variant::ALL {
            sandbox.host(variant)?;
        }
        Ok(sandbox)
    }

    /// One that executes machine code for other CPUs than this machine's own.
    pub(super) fn at(level: fn(Variant) -> CpuLevel) -> Sandbox {
        Sandbox { hosts: [const { OnceLock::new() }; Variant::ALL.len()], level }
    }

    /// Maps the artifact in `file`, which must be one that this machine's own compiler made and whose seal was
    /// checked: an artifact is machine code, and loading a forged one is executing it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Artifact`] if it was made by another engine, for another CPU or another variant, or imports what
    /// is not offered; [`SandboxError::Capacity`] if it cannot be mapped.
    pub fn load_file(&self, file: &File, variant: Variant) -> Result<Loaded, SandboxError> {
        let host = self.host(variant)?;
        let file = file.try_clone().map_err(|error| SandboxError::Capacity(error.to_string()))?;
        #[expect(
            unsafe_code,
            reason = "machine code cannot be checked, only authenticated. Every artifact comes from `compiler`, which \
                      hands out only files whose seal (HMAC with this machine's key) it has verified, and which never \
                      changes a file after sealing it: new artifacts replace old ones by renaming"
        )]
        // SAFETY: see the reason; the mapping is private and the file is not written to while it exists.
        let module = unsafe { Module::deserialize_open_file(&host.engine, file) };
        let artifact = |error: wasmtime::Error| SandboxError::Artifact(format!("{error:#}"));
        let module = module.map_err(artifact)?;
        let required = module.resources_required();
        let pre = host.linker.instantiate_pre(&module).map_err(artifact)?;
        Ok(Loaded {
            pre,
            variant,
            spaces: u64::from(required.num_memories) + u64::from(required.num_tables),
            largest_memory: required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES),
        })
    }

    /// Executes one attempt on the calling thread, which must have twice [`super::STACK_BYTES`] of stack.
    /// Returns when the guest ends; a guest that never ends is ended with its process.
    ///
    /// # Errors
    ///
    /// See [`SandboxError`]; whatever the guest itself does is an [`Outcome`].
    pub fn execute(
        &self,
        loaded: &Loaded,
        invocation: Invocation,
        live: Option<Box<dyn LiveOutput>>,
    ) -> Result<Execution, SandboxError> {
        // A panic in a host function unwinds through the guest to here. The store is gone by then.
        catch_unwind(AssertUnwindSafe(|| self.attempt(loaded, invocation, live))).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            Err(SandboxError::Engine(format!("panic: {}", text.unwrap_or_default())))
        })
    }

    fn attempt(
        &self,
        loaded: &Loaded,
        invocation: Invocation,
        live: Option<Box<dyn LiveOutput>>,
    ) -> Result<Execution, SandboxError> {
        let call = Call::resolve(&loaded.pre, &invocation)?;
        let limits = invocation.limits;
        let Invocation { args, env, stdin, mounts, clock_ns, seed, .. } = invocation;
        let config = WasiConfig { args, env, stdin, mounts, clock_ns, seed, limits, live };
        let wasi = match WasiState::new(config) {
            Ok(wasi) => wasi,
            Err(error) => return Ok(not_mounted(&error, &limits)),
        };
        let guest = Guest { wasi, limiter: Limiter::new(limits.memory_bytes, loaded.spaces) };
        let mut store = Store::new(&self.host(loaded.variant)?.engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        let granted = self.grant(&mut store, loaded.variant, limits.fuel)?;

        // Asked before the host is: on a machine that could not map it the answer is the same.
        let outcome = if loaded.largest_memory > limits.memory_bytes.min(MEMORY_BYTES_MAX as u64) {
            Outcome::Trapped { trap: Trap::Instantiation }
        } else {
            match call.run(&loaded.pre, &mut store) {
                Ok(outcome) => outcome,
                Err(error) => outcome::classify(&error)?,
            }
        };
        let ended_by_itself = matches!(outcome, Outcome::Exited { .. } | Outcome::Returned { .. });
        let fuel_used = match granted {
            // After a trap the counter in the store may lag behind what was used.
            Some(granted) if ended_by_itself => {
                let left = store.get_fuel().map_err(|error| SandboxError::Engine(error.to_string()))?;
                Some(granted - left)
            }
            _ => None,
        };
        let WasiOutput { stdout, stderr, files } = store.into_data().wasi.finish();
        match files {
            Some(files) => Ok(Execution { outcome, stdout, stderr, files, fuel_used }),
            // A manifest of them could not be sent to whoever compares it.
            None => {
                let (outcome, files, fuel_used) = (Outcome::OutputLimit, Vec::new(), None);
                Ok(Execution { outcome, stdout, stderr, files, fuel_used })
            }
        }
    }

    fn grant(
        &self,
        store: &mut Store<Guest>,
        variant: Variant,
        fuel: Option<u64>,
    ) -> Result<Option<u64>, SandboxError> {
        match (variant.is_fueled(), fuel) {
            (false, None) => Ok(None),
            (true, Some(fuel)) => {
                store.set_fuel(fuel).map_err(|error| SandboxError::Engine(error.to_string()))?;
                Ok(Some(fuel))
            }
            _ => Err(SandboxError::Artifact(
                "runs with fuel need the fueled artifact, and only they".to_owned(),
            )),
        }
    }

    fn host(&self, variant: Variant) -> Result<&Host, SandboxError> {
        let host = &self.hosts[variant as usize];
        if let Some(host) = host.get() {
            return Ok(host);
        }
        let build = || -> wasmtime::Result<Host> {
            let engine = engine::build(Role::Execute, variant, (self.level)(variant))?;
            let linker = linker(&engine)?;
            Ok(Host { engine, linker })
        };
        let built = build().map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
        Ok(host.get_or_init(|| built))
    }
}

/// The answer to inputs that cannot be put where the spec wants them: whether a blob is a tree shows only here. It follows
/// from the spec, so all voters give it; standard error says why.
fn not_mounted(error: &MountError, limits: &Limits) -> Execution {
    let mut words = format!("the inputs cannot be mounted: {error}\n").into_bytes();
    words.truncate(usize::try_from(limits.output_bytes).unwrap_or(usize::MAX));
    Execution {
        outcome: Outcome::Trapped { trap: Trap::Instantiation },
        stdout: Bytes::new(),
        stderr: words.into(),
        files: Vec::new(),
        fuel_used: None,
    }
}

/// What is called, resolved before anything of the guest runs.
struct Call {
    entry: String,
    arguments: Vec<Val>,
    results: usize,
    /// Whether `_initialize` comes first.
    reactor: bool,
}

impl Call {
    fn resolve(pre: &InstancePre<Guest>, invocation: &Invocation) -> Result<Call, SandboxError> {
        let entry = &invocation.entry;
        let module = pre.module();
        let function = module.get_export(entry).and_then(|export| export.func().cloned());
        let Some(function) = function else {
            return Err(SandboxError::Entry(values::no_function(entry)));
        };
        let types: Option<Vec<_>> = function.params().map(|ty| NumericType::of(&ty)).collect();
        let numeric = types.filter(|_| function.results().all(|ty| NumericType::of(&ty).is_some()));
        let Some(types) = numeric else {
            return Err(SandboxError::Entry(values::not_numeric(entry)));
        };
        // The arguments of a command reach it through WASI.
        let texts: &[String] = if entry == DEFAULT_ENTRY { &[] } else { &invocation.args };
        let arguments = values::parse_all(&types, texts).map_err(SandboxError::Entry)?;
        let reactor = entry != DEFAULT_ENTRY && entry != REACTOR_START;
        Ok(Call {
            entry: entry.clone(),
            arguments,
            results: function.results().len(),
            // Something else of that name is none; one of another shape was not admitted.
            reactor: reactor
                && module.get_export(REACTOR_START).is_some_and(|export| export.func().is_some()),
        })
    }

    fn run(&self, pre: &InstancePre<Guest>, store: &mut Store<Guest>) -> wasmtime::Result<Outcome> {
        let instance = pre.instantiate(&mut *store)?;
        let function = |store: &mut Store<Guest>, name: &str| -> wasmtime::Result<Func> {
            instance.get_func(store, name).ok_or_else(|| wasmtime::Error::msg(format!("`{name}` is gone")))
        };
        if self.reactor {
            function(store, REACTOR_START)?.call(&mut *store, &[], &mut [])?;
        }
        let mut results = vec![Val::I32(0); self.results];
        function(store, &self.entry)?.call(&mut *store, &self.arguments, &mut results)?;
        if self.entry == DEFAULT_ENTRY {
            return Ok(Outcome::Exited { code: 0 });
        }
        let values: Option<Vec<_>> = results.iter().map(values::print).collect();
        values
            .map(|values| Outcome::Returned { values })
            .ok_or_else(|| wasmtime::Error::msg("a result is no number"))
    }
}
