//! Tests of the functions through a real guest: a module that hands every call on and exports its memory.

mod files;
mod hostile;
mod system;

use wasmtime::{Config, Engine, Instance, Linker, Module, Store, Val, ValType};

use super::abi::{self, Errno, rights};
use super::*;

/// Rights to read and write, as most programs ask for.
const RW: u64 = rights::FD_READ | rights::FD_WRITE;
/// Where results are written.
const RESULT: u32 = 8;

/// A running guest whose code is the test.
struct Guest {
    store: Store<WasiState>,
    instance: Instance,
    /// Where the next text is put.
    free: u32,
}

fn config() -> WasiConfig {
    WasiConfig {
        args: vec![],
        env: vec![],
        stdin: Bytes::new(),
        mounts: vec![],
        clock_ns: 1_000_000_000,
        seed: 0,
        limits: Limits { file_bytes: 100_000, file_count: 2_000, output_bytes: 1_000, ..Limits::default() },
        live: None,
    }
}

/// The module, and the engine that it is compiled for.
fn module() -> (Engine, Linker<WasiState>, Module) {
    let engine = Engine::new(&Config::new()).unwrap();
    let mut linker = Linker::new(&engine);
    add_to_linker(&mut linker).unwrap();
    let mut store = Store::new(&engine, WasiState::new(config()).unwrap());
    let (mut imports, mut wrappers) = (String::new(), String::new());
    for name in FUNCTIONS {
        let function = linker.get(&mut store, MODULE, name).unwrap().into_func().unwrap().ty(&store);
        let types = |types: Vec<ValType>| types.iter().map(|t| format!(" {t}")).collect::<String>();
        let parameters = types(function.params().collect());
        let results = types(function.results().collect());
        let signature = format!("(param{parameters}) (result{results})");
        imports += &format!("(import \"{MODULE}\" \"{name}\" (func ${name} {signature}))\n");
        let gets: String = (0..function.params().len()).map(|n| format!("local.get {n} ")).collect();
        wrappers += &format!("(func (export \"{name}\") {signature} {gets} call ${name})\n");
    }
    let text = format!("(module {imports} (memory (export \"memory\") 2) {wrappers})");
    let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    (engine, linker, module)
}

impl Guest {
    fn new(config: WasiConfig) -> Guest {
        let (engine, linker, module) = module();
        let mut store = Store::new(&engine, WasiState::new(config).unwrap());
        let instance = linker.instantiate(&mut store, &module).unwrap();
        Guest { store, instance, free: 1_024 }
    }

    /// Calls a function with its arguments widened to 64 bits.
    fn try_call(&mut self, name: &str, arguments: &[u64]) -> wasmtime::Result<Errno> {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let types = function.ty(&self.store);
        assert_eq!(types.params().len(), arguments.len(), "{name}");
        let arguments: Vec<_> = types
            .params()
            .zip(arguments)
            .map(|(t, value)| match t {
                ValType::I32 => Val::I32(*value as i32),
                _ => Val::I64(*value as i64),
            })
            .collect();
        let mut results = vec![Val::I32(0); types.results().len()];
        function.call(&mut self.store, &arguments, &mut results)?;
        Ok(Errno(results.first().map_or(0, Val::unwrap_i32) as u16))
    }

    fn call(&mut self, name: &str, arguments: &[u64]) -> Errno {
        self.try_call(name, arguments).unwrap()
    }

    /// Calls a function that must succeed.
    fn ok(&mut self, name: &str, arguments: &[u64]) {
        assert_eq!(self.call(name, arguments), Errno::SUCCESS, "{name}{arguments:?}");
    }

    fn memory(&mut self) -> &mut [u8] {
        self.instance.get_memory(&mut self.store, "memory").unwrap().data_mut(&mut self.store)
    }

    fn bytes(&mut self, at: u32, length: usize) -> Vec<u8> {
        self.memory()[at as usize..at as usize + length].to_vec()
    }

    fn u32(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    fn u64(&mut self, at: u32) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    /// Puts bytes into the memory and says where.
    fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.free;
        self.memory()[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        self.free = (at + bytes.len() as u32).next_multiple_of(8);
        u64::from(at)
    }

    /// Puts a text and gives its two arguments.
    fn text(&mut self, text: &str) -> [u64; 2] {
        [self.put(text.as_bytes()), text.len() as u64]
    }

    /// Puts a list of buffers.
    fn iovecs(&mut self, buffers: &[(u64, u64)]) -> u64 {
        let list: Vec<u8> =
            buffers.iter().flat_map(|(at, length)| (at | length << 32).to_le_bytes()).collect();
        self.put(&list)
    }

    /// Opens a path below a directory.
    fn open_at(&mut self, fd: u64, path: &str, oflags: u32, rights: u64, fdflags: u16) -> Result<u64, Errno> {
        let [at, length] = self.text(path);
        let arguments =
            [fd, 0, at, length, u64::from(oflags), rights, 0, u64::from(fdflags), u64::from(RESULT)];
        match self.call("path_open", &arguments) {
            Errno::SUCCESS => Ok(u64::from(self.u32(RESULT))),
            errno => Err(errno),
        }
    }

    /// Opens a path below the root for reading and writing, and makes it if need be.
    fn create(&mut self, path: &str) -> u64 {
        self.open_at(3, path, abi::OFLAGS_CREAT, RW, 0).unwrap()
    }

    fn write(&mut self, fd: u64, bytes: &[u8]) -> Result<u32, Errno> {
        let at = self.put(bytes);
        let list = self.iovecs(&[(at, bytes.len() as u64)]);
        match self.call("fd_write", &[fd, list, 1, u64::from(RESULT)]) {
            Errno::SUCCESS => Ok(self.u32(RESULT)),
            errno => Err(errno),
        }
    }

    fn read(&mut self, fd: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let at = self.put(&vec![0; length]);
        let list = self.iovecs(&[(at, length as u64)]);
        match self.call("fd_read", &[fd, list, 1, u64::from(RESULT)]) {
            Errno::SUCCESS => {
                let read = self.u32(RESULT) as usize;
                Ok(self.bytes(at as u32, read))
            }
            errno => Err(errno),
        }
    }

    fn seek(&mut self, fd: u64, offset: i64, whence: u64) -> Result<u64, Errno> {
        match self.call("fd_seek", &[fd, offset as u64, whence, u64::from(RESULT)]) {
            Errno::SUCCESS => Ok(self.u64(RESULT)),
            errno => Err(errno),
        }
    }

    /// Calls a function of a directory and a path.
    fn path(&mut self, name: &str, path: &str) -> Errno {
        let [at, length] = self.text(path);
        self.call(name, &[3, at, length])
    }

    fn time(&mut self, clock: u64) -> u64 {
        self.ok("clock_time_get", &[clock, 0, u64::from(RESULT)]);
        self.u64(RESULT)
    }

    fn finish(self) -> WasiOutput {
        self.store.into_data().finish()
    }
}
