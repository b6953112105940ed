//! Arguments, clocks, polling, random bytes, streams, and the end.

use std::sync::{Arc, Mutex};

use super::*;

#[test]
fn all_forty_six_functions_are_offered() {
    assert_eq!(FUNCTIONS.len(), 46);
    Guest::new(config());
}

#[test]
fn arguments_and_environment_are_laid_out_as_c_programs_expect() {
    let env = vec![("A".to_owned(), "b=c".to_owned()), ("E".to_owned(), String::new())];
    let mut guest = Guest::new(WasiConfig { args: vec!["x".into(), "é".into()], env, ..config() });
    guest.ok("args_sizes_get", &[8, 16]);
    assert_eq!((guest.u32(8), guest.u32(16)), (3, 10));
    guest.ok("args_get", &[32, 64]);
    assert_eq!(guest.bytes(64, 10), "main\0x\0é\0".as_bytes());
    assert_eq!([guest.u32(32), guest.u32(36), guest.u32(40)], [64, 69, 71]);
    guest.ok("environ_sizes_get", &[8, 16]);
    assert_eq!((guest.u32(8), guest.u32(16)), (2, 9));
    guest.ok("environ_get", &[32, 64]);
    assert_eq!(guest.bytes(64, 9), b"A=b=c\0E=\0");
}

#[test]
fn each_reading_of_a_clock_takes_a_microsecond() {
    let mut guest = Guest::new(config());
    assert_eq!(guest.time(0), 1_000_000_000);
    assert_eq!(guest.time(1), 1_000);
    assert_eq!(guest.time(2), 2_000);
    assert_eq!(guest.time(3), 3_000);
    assert_eq!(guest.time(0), 1_000_004_000);
    guest.ok("clock_res_get", &[1, 8]);
    assert_eq!(guest.u64(8), 1_000);
    assert_eq!(guest.call("clock_time_get", &[4, 0, 8]), Errno::INVAL);
    assert_eq!(guest.call("clock_res_get", &[4, 8]), Errno::INVAL);
}

/// A subscription to a clock.
fn clock(userdata: u64, id: u32, timeout: u64, absolute: bool) -> [u8; 48] {
    let mut record = [0; 48];
    record[0..8].copy_from_slice(&userdata.to_le_bytes());
    record[16..20].copy_from_slice(&id.to_le_bytes());
    record[24..32].copy_from_slice(&timeout.to_le_bytes());
    record[40] = u8::from(absolute);
    record
}

/// A subscription to a descriptor; kind 1 is to read, 2 to write.
fn ready(userdata: u64, kind: u8, fd: u32) -> [u8; 48] {
    let mut record = [0; 48];
    record[0..8].copy_from_slice(&userdata.to_le_bytes());
    record[8] = kind;
    record[16..20].copy_from_slice(&fd.to_le_bytes());
    record
}

/// Polls, and gives of each event: userdata, errno, kind, bytes, flags.
fn poll(guest: &mut Guest, subscriptions: &[[u8; 48]]) -> Vec<(u64, u16, u8, u64, u16)> {
    let count = subscriptions.len();
    let list = guest.put(&subscriptions.concat());
    let events = guest.put(&vec![0xff; count * 32]);
    guest.ok("poll_oneoff", &[list, events, count as u64, u64::from(RESULT)]);
    let answered = guest.u32(RESULT) as usize;
    let bytes = guest.bytes(events as u32, answered * 32);
    let word = |event: &[u8], at: usize| u16::from_le_bytes([event[at], event[at + 1]]);
    let long = |event: &[u8], at: usize| u64::from_le_bytes(event[at..at + 8].try_into().unwrap());
    bytes.chunks(32).map(|e| (long(e, 0), word(e, 8), e[10], long(e, 16), word(e, 24))).collect()
}

#[test]
fn an_hour_of_sleep_passes_at_once_and_exactly() {
    let mut guest = Guest::new(config());
    let hour = 3_600_000_000_000;
    assert_eq!(guest.time(1), 0);
    assert_eq!(poll(&mut guest, &[clock(5, 1, hour, false)]), [(5, 0, 0, 0, 0)]);
    assert_eq!(guest.time(1), 1_000 + hour);
    // Absolute, by either clock; the first of two deadlines counts.
    let wall = 1_000_000_000 + 2 * hour;
    assert_eq!(poll(&mut guest, &[clock(6, 0, wall, true), clock(7, 1, 3 * hour, true)]), [(6, 0, 0, 0, 0)]);
    assert_eq!(guest.time(0), wall);
    // What has passed is answered without waiting, and the end of time is reached without overflow.
    assert_eq!(poll(&mut guest, &[clock(8, 1, 1, true)]).len(), 1);
    assert_eq!(guest.time(0), wall + 2_000);
    poll(&mut guest, &[clock(9, 1, u64::MAX, false)]);
    assert_eq!(guest.time(1), u64::MAX);
    assert_eq!(guest.time(0), u64::MAX);
    assert_eq!(poll(&mut guest, &[clock(10, 2, 1, false)]).len(), 1);
}

#[test]
fn what_can_be_ready_is_ready_and_a_clock_beside_it_does_not_run() {
    let mut guest = Guest::new(WasiConfig { stdin: "abc".into(), ..config() });
    let file = guest.create("tmp/f");
    guest.write(file, b"12345").unwrap();
    guest.seek(file, 1, 0).unwrap();
    let now = guest.time(1);
    let subscriptions =
        [clock(1, 1, 1_000_000, false), ready(2, 1, 0), ready(3, 2, 1), ready(4, 1, file as u32)];
    let events = poll(&mut guest, &subscriptions);
    assert_eq!(events, [(2, 0, 1, 3, 0), (3, 0, 2, 1_000, 0), (4, 0, 1, 4, 0)]);
    assert_eq!(guest.time(1), now + 2_000);
    guest.read(0, 3).unwrap();
    assert_eq!(poll(&mut guest, &[ready(2, 1, 0)]), [(2, 0, 1, 0, 1)], "the end of input is a hang-up");
}

#[test]
fn subscriptions_that_make_no_sense_are_answered_one_by_one() {
    let mut guest = Guest::new(config());
    let badf = Errno::BADF.0;
    let subscriptions = [
        ready(1, 1, 99),
        ready(2, 1, 1),
        ready(3, 2, 0),
        ready(4, 1, 3),
        clock(5, 9, 0, false),
        clock(6, 1, 0, false),
    ];
    let events = poll(&mut guest, &subscriptions);
    let answers: Vec<_> = events.iter().map(|event| (event.0, event.1)).collect();
    assert_eq!(answers, [(1, badf), (2, badf), (3, badf), (4, badf), (5, Errno::INVAL.0), (6, 0)]);
    assert_eq!(guest.call("poll_oneoff", &[64, 128, 0, 8]), Errno::INVAL);
    let nonsense = guest.put(&ready(0, 3, 0));
    assert_eq!(guest.call("poll_oneoff", &[nonsense, 64, 1, 8]), Errno::INVAL);
    assert_eq!(guest.call("poll_oneoff", &[64, 128, u64::from(u32::MAX), 8]), Errno::INVAL);
}

#[test]
fn random_bytes_follow_from_the_seed_however_they_are_asked_for() {
    let bytes = |seed, lengths: &[u64]| {
        let mut guest = Guest::new(WasiConfig { seed, ..config() });
        let mut at = 4_096;
        for length in lengths {
            guest.ok("random_get", &[at, *length]);
            at += length;
        }
        guest.bytes(4_096, 100)
    };
    let whole = bytes(7, &[100]);
    assert_eq!(bytes(7, &[1, 31, 0, 33, 35]), whole);
    assert_ne!(bytes(8, &[100]), whole);
    // SHA-256 of the seed, the stream's name and the block's number: pinned, because results depend on it.
    let block = |n: u64| {
        let input = [&7_u64.to_le_bytes()[..], b"wasi", &n.to_le_bytes()].concat();
        *vocabulary::digest::Digest::of(&input).as_bytes()
    };
    assert_eq!(whole[..64], [block(0), block(1)].concat());
}

#[test]
fn input_is_read_to_its_end_and_output_is_kept_apart() {
    let mut guest = Guest::new(WasiConfig { stdin: "hello".into(), ..config() });
    assert_eq!(guest.read(0, 3).unwrap(), b"hel");
    assert_eq!(guest.read(0, 9).unwrap(), b"lo");
    assert_eq!(guest.read(0, 9).unwrap(), b"");
    assert_eq!(guest.write(1, b"out"), Ok(3));
    assert_eq!(guest.write(2, b"err"), Ok(3));
    let at = guest.put(b"abcdef");
    let list = guest.iovecs(&[(at, 2), (0, 0), (at + 4, 2)]);
    guest.ok("fd_write", &[1, list, 3, u64::from(RESULT)]);
    assert_eq!(guest.u32(RESULT), 4);
    let output = guest.finish();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"outabef"[..], &b"err"[..]));
}

#[test]
fn streams_answer_like_pipes() {
    let mut guest = Guest::new(config());
    assert_eq!(guest.write(0, b"x"), Err(Errno::BADF));
    assert_eq!(guest.read(1, 1), Err(Errno::BADF));
    assert_eq!(guest.seek(1, 0, 1), Err(Errno::SPIPE));
    assert_eq!(guest.call("fd_tell", &[0, 8]), Errno::SPIPE);
    assert_eq!(guest.call("fd_pread", &[0, 64, 0, 0, 8]), Errno::SPIPE);
    assert_eq!(guest.call("fd_pwrite", &[1, 64, 0, 0, 8]), Errno::SPIPE);
    assert_eq!(guest.call("fd_advise", &[1, 0, 0, 0]), Errno::SPIPE);
    assert_eq!(guest.call("fd_allocate", &[1, 0, 1]), Errno::SPIPE);
    assert_eq!(guest.call("fd_filestat_set_size", &[1, 0]), Errno::INVAL);
    assert_eq!(guest.call("fd_filestat_set_times", &[1, 0, 0, 0]), Errno::INVAL);
    assert_eq!(guest.call("fd_readdir", &[1, 64, 64, 0, 8]), Errno::BADF);
    assert_eq!(guest.call("fd_prestat_get", &[1, 8]), Errno::BADF);
    guest.ok("fd_sync", &[1]);
    guest.ok("fd_datasync", &[1]);
    guest.ok("fd_fdstat_set_flags", &[0, 4]);
    guest.ok("fd_fdstat_get", &[0, 32]);
    assert_eq!(guest.bytes(32, 4), [abi::FILETYPE_UNKNOWN, 0, 4, 0]);
    guest.ok("fd_filestat_get", &[1, 64]);
    assert_eq!(guest.bytes(64, 64), [0; 64]);
    guest.ok("fd_close", &[1]);
    assert_eq!(guest.write(1, b"x"), Err(Errno::BADF));
}

#[test]
fn output_stops_exactly_at_its_limit_and_both_streams_share_it() {
    let mut guest = Guest::new(config());
    assert_eq!(guest.write(1, &[b'a'; 600]), Ok(600));
    assert_eq!(guest.write(2, &[b'b'; 400]), Ok(400), "the limit itself is allowed");
    let at = guest.put(b"c");
    let list = guest.iovecs(&[(at, 1)]);
    let error = guest.try_call("fd_write", &[1, list, 1, 8]).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&OutputLimitReached));
    let output = guest.finish();
    assert_eq!((output.stdout.len(), output.stderr.len()), (600, 400));

    let mut guest = Guest::new(config());
    let at = guest.put(&[b'x'; 1_200]);
    let list = guest.iovecs(&[(at, 900), (at, 300)]);
    assert!(guest.try_call("fd_write", &[2, list, 2, 8]).unwrap_err().is::<OutputLimitReached>());
    assert_eq!(guest.finish().stderr, vec![b'x'; 1_000]);
}

#[test]
fn who_watches_hears_every_kept_byte() {
    type Heard = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;
    struct Ear(Heard);
    impl LiveOutput for Ear {
        fn wrote(&mut self, is_stderr: bool, bytes: &[u8]) {
            self.0.lock().unwrap().push((is_stderr, bytes.to_vec()));
        }
    }
    let heard = Heard::default();
    let mut guest = Guest::new(WasiConfig { live: Some(Box::new(Ear(Arc::clone(&heard)))), ..config() });
    guest.write(1, b"one").unwrap();
    guest.write(2, b"two").unwrap();
    guest.write(1, b"").unwrap();
    assert_eq!(*heard.lock().unwrap(), [(false, b"one".to_vec()), (true, b"two".to_vec())]);
}

#[test]
fn any_exit_code_ends_the_guest_as_given() {
    for code in [0, 1, 125, 126, 255, u32::MAX] {
        let error = Guest::new(config()).try_call("proc_exit", &[u64::from(code)]).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Exit(code)));
    }
}

#[test]
fn what_does_not_exist_here_says_so() {
    let mut guest = Guest::new(config());
    guest.ok("sched_yield", &[]);
    assert_eq!(guest.call("proc_raise", &[9]), Errno::NOSYS);
    for (fd, errno) in [(1, Errno::NOTSOCK), (3, Errno::NOTSOCK), (9, Errno::BADF)] {
        assert_eq!(guest.call("sock_accept", &[fd, 0, 8]), errno);
        assert_eq!(guest.call("sock_recv", &[fd, 64, 0, 0, 8, 16]), errno);
        assert_eq!(guest.call("sock_send", &[fd, 64, 0, 0, 8]), errno);
        assert_eq!(guest.call("sock_shutdown", &[fd, 1]), errno);
    }
}
