//! Arguments, environment, clocks, random bytes, and what a guest of Lockstep does not have: signals and sockets.

use super::clock::{ClockId, STEP_NS};
use super::memory::aligned;
use super::{Answer, Call, Errno, Fail, PROGRAM};

impl Call<'_> {
    pub(super) fn args_get(&mut self, argv: u32, buffer: u32) -> Answer {
        let Call { wasi, memory } = self;
        let args = std::iter::once(PROGRAM).chain(wasi.args.iter().map(String::as_str));
        let mut list = StringList { pointers: argv, buffer };
        for arg in args {
            list.push(memory, &[arg.as_bytes(), b"\0"])?;
        }
        Ok(())
    }

    pub(super) fn args_sizes_get(&mut self, count: u32, size: u32) -> Answer {
        let bytes: usize = self.wasi.args.iter().map(|arg| arg.len() + 1).sum();
        self.sizes(count, self.wasi.args.len() + 1, size, bytes + PROGRAM.len() + 1)
    }

    pub(super) fn environ_get(&mut self, environ: u32, buffer: u32) -> Answer {
        let Call { wasi, memory } = self;
        let mut list = StringList { pointers: environ, buffer };
        for (name, value) in &wasi.env {
            list.push(memory, &[name.as_bytes(), b"=", value.as_bytes(), b"\0"])?;
        }
        Ok(())
    }

    pub(super) fn environ_sizes_get(&mut self, count: u32, size: u32) -> Answer {
        let bytes = self.wasi.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        self.sizes(count, self.wasi.env.len(), size, bytes)
    }

    fn sizes(&mut self, count_at: u32, count: usize, size_at: u32, size: usize) -> Answer {
        let count = u32::try_from(count).map_err(|_| Errno::OVERFLOW)?;
        let size = u32::try_from(size).map_err(|_| Errno::OVERFLOW)?;
        self.memory.write_u32(count_at, count)?;
        self.memory.write_u32(size_at, size)?;
        Ok(())
    }

    pub(super) fn clock_res_get(&mut self, clock: u32, resolution: u32) -> Answer {
        ClockId::from_number(clock)?;
        Ok(self.memory.write_u64(resolution, STEP_NS)?)
    }

    pub(super) fn clock_time_get(&mut self, clock: u32, _precision: u64, time: u32) -> Answer {
        let now = self.wasi.clock.read(ClockId::from_number(clock)?);
        Ok(self.memory.write_u64(time, now)?)
    }

    pub(super) fn random_get(&mut self, buffer: u32, length: u32) -> Answer {
        self.wasi.random.fill(self.memory.bytes_mut(buffer, length)?);
        Ok(())
    }

    pub(super) fn sched_yield(&mut self) -> Answer {
        Ok(())
    }

    pub(super) fn proc_raise(&mut self, _signal: u32) -> Answer {
        Err(Errno::NOSYS.into())
    }

    pub(super) fn sock_accept(&mut self, fd: u32, _flags: u32, _accepted: u32) -> Answer {
        self.no_socket(fd)
    }

    pub(super) fn sock_recv(
        &mut self,
        fd: u32,
        _iovecs: u32,
        _count: u32,
        _flags: u32,
        _read: u32,
        _out_flags: u32,
    ) -> Answer {
        self.no_socket(fd)
    }

    pub(super) fn sock_send(
        &mut self,
        fd: u32,
        _iovecs: u32,
        _count: u32,
        _flags: u32,
        _written: u32,
    ) -> Answer {
        self.no_socket(fd)
    }

    pub(super) fn sock_shutdown(&mut self, fd: u32, _how: u32) -> Answer {
        self.no_socket(fd)
    }

    /// No descriptor is a socket; one that is not open is not even that.
    fn no_socket(&self, fd: u32) -> Answer {
        self.wasi.table.get(fd)?;
        Err(Errno::NOTSOCK.into())
    }
}

/// An array of pointers beside the texts that they lead to, as `argv` is laid out.
struct StringList {
    pointers: u32,
    buffer: u32,
}

impl StringList {
    fn push(&mut self, memory: &mut super::Memory<'_>, pieces: &[&[u8]]) -> Result<(), Fail> {
        aligned(self.pointers, 4)?;
        memory.write_u32(self.pointers, self.buffer)?;
        self.pointers = self.pointers.checked_add(4).ok_or(Errno::OVERFLOW)?;
        for piece in pieces {
            memory.write(self.buffer, piece)?;
            self.buffer = self.buffer.checked_add(piece.len() as u32).ok_or(Errno::OVERFLOW)?;
        }
        Ok(())
    }
}
