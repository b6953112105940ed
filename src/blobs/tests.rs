//! Blobs over the real store and real files.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::*;
use crate::core::Time;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{BlobRow, INLINE_BLOB_BYTES_MAX};

const FOREVER: Time = Time(u64::MAX);
const NO_PIN: Time = Time(0);
const ALL: Range<u64> = 0..u64::MAX;

struct Place {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
    blobs: Blobs,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap());
        let blobs = Blobs::open(&dir.path().join("blobs"), Arc::clone(&store), Failure::new()).unwrap();
        Place { dir, store, blobs }
    }

    /// The same directory as after a restart: nothing is remembered.
    fn again(&self) -> Blobs {
        Blobs::open(&self.dir.path().join("blobs"), Arc::clone(&self.store), Failure::new()).unwrap()
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.path().join("blobs").join(&hex[..2]).join(&hex[2..])
    }

    /// Every file below `blobs`.
    fn files(&self) -> Vec<PathBuf> {
        let entries = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries(self.dir.path().join("blobs")).flat_map(entries).collect();
        files.sort();
        files
    }

    async fn read(&self, digest: Digest, range: Range<u64>) -> Result<Vec<u8>, BlobError> {
        let stream = self.blobs.read_range(digest, range).await?;
        let pieces: Vec<Bytes> = stream.try_collect().await?;
        Ok(pieces.concat())
    }
}

/// `size` bytes that are not all alike, from a seed.
fn pattern(size: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect::<Vec<_>>().into()
}

/// What putting these bytes answers.
fn named(bytes: &Bytes) -> (Digest, u64) {
    (Digest::of(bytes), bytes.len() as u64)
}

/// A body in pieces of odd sizes.
fn body(bytes: &Bytes) -> impl stream::Stream<Item = Result<Bytes, String>> + Send + use<> {
    let pieces: Vec<_> = bytes.chunks(70_001).map(Bytes::copy_from_slice).map(Ok).collect();
    stream::iter(pieces)
}

#[tokio::test]
async fn small_blobs_live_in_their_row_and_large_ones_in_files() {
    let place = Place::new();
    for size in [1, INLINE_BLOB_BYTES_MAX, INLINE_BLOB_BYTES_MAX + 1, 3 << 20] {
        let bytes = pattern(size, 1);
        let blob = place.blobs.put_bytes(bytes.clone(), FOREVER).await.unwrap();
        assert_eq!(blob, named(&bytes));
        let row = place.store.blob(blob.0).await.unwrap().unwrap();
        assert_eq!(row.size, size as u64);
        assert_eq!(row.inline.is_some(), size <= INLINE_BLOB_BYTES_MAX);
        assert_eq!(place.path(blob.0).exists(), size > INLINE_BLOB_BYTES_MAX);
        assert_eq!(place.read(blob.0, ALL).await.unwrap(), bytes);
        assert_eq!(place.blobs.verify(blob.0).await.unwrap(), Some(size as u64));
    }
    assert_eq!(place.files().len(), 2);
    let absent = Digest::of(b"absent");
    assert!(place.blobs.open_blob(absent).await.unwrap().is_none());
    assert!(matches!(place.blobs.read_range(absent, ALL).await.map(drop), Err(BlobError::Missing(_))));
    assert_eq!(place.blobs.verify(absent).await.unwrap(), None);
}

#[tokio::test]
async fn the_empty_blob_is_always_there() {
    let place = Place::new();
    assert_eq!(place.blobs.put_bytes(Bytes::new(), FOREVER).await.unwrap().0, Digest::EMPTY);
    assert_eq!(place.read(Digest::EMPTY, ALL).await.unwrap(), b"");
    assert_eq!(place.store.usage().await.unwrap().blobs, 0);
}

#[tokio::test]
async fn a_stream_is_hashed_with_and_without_an_expectation() {
    let place = Place::new();
    for (seed, announced) in [(1, true), (2, false)] {
        let bytes = pattern(2_500_000, seed);
        let expected = announced.then(|| Digest::of(&bytes));
        let blob = place.blobs.put_stream(body(&bytes), expected, 2_500_000, NO_PIN).await.unwrap();
        assert_eq!(blob, named(&bytes));
        assert_eq!(place.read(blob.0, ALL).await.unwrap(), bytes);
    }
    assert_eq!(place.files().len(), 2, "nothing but the two blobs is left");
}

#[tokio::test]
async fn refused_bodies_leave_nothing_behind() {
    let place = Place::new();
    for size in [100, 2_500_000] {
        let bytes = pattern(size, 1);
        let (digest, limit) = (Digest::of(&bytes), size as u64);
        let other = Digest::of(b"other");
        let mismatch = place.blobs.put_stream(body(&bytes), Some(other), limit, FOREVER).await;
        assert!(
            matches!(mismatch, Err(BlobError::Mismatch { expected, actual }) if (expected, actual) == (other, digest))
        );
        for expected in [None, Some(digest)] {
            let large = place.blobs.put_stream(body(&bytes), expected, limit - 1, FOREVER).await;
            assert!(matches!(large, Err(BlobError::TooLarge { .. })), "{large:?}");
            let broken = body(&bytes).chain(stream::iter([Err("connection reset".to_owned())]));
            let broken = place.blobs.put_stream(broken, expected, limit, FOREVER).await;
            assert!(matches!(broken, Err(BlobError::Body(_))), "{broken:?}");
        }
    }
    assert_eq!(place.files(), Vec::<PathBuf>::new());
    assert_eq!(place.store.usage().await.unwrap().blobs, 0);
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing_behind() {
    let place = Place::new();
    let bytes = pattern(2_500_000, 1);
    for expected in [None, Some(Digest::of(&bytes))] {
        let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
        let endless = body(&bytes).chain(stream::pending()).inspect(move |_| seen.send(()).unwrap_or(()));
        let blobs = place.blobs.clone();
        let upload =
            tokio::spawn(async move { blobs.put_stream(endless, expected, u64::MAX, FOREVER).await });
        for _ in bytes.chunks(70_001) {
            sees.recv().await.unwrap();
        }
        upload.abort();
        assert!(upload.await.unwrap_err().is_cancelled());
    }
    // the files go on a thread of their own
    let gone = async {
        while !place.files().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}

#[tokio::test]
async fn the_sweep_leaves_a_slow_upload_alone() {
    let place = Place::new();
    let bytes = pattern(2_500_000, 1);
    let digest = Digest::of(&bytes);
    let (pieces, mut receive) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
    let coming = stream::poll_fn(move |context| receive.poll_recv(context));
    let blobs = place.blobs.clone();
    let slow = tokio::spawn(async move { blobs.put_stream(coming, Some(digest), u64::MAX, FOREVER).await });
    pieces.send(Ok(bytes.slice(..2_000_000))).unwrap();
    while place.files().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(place.blobs.sweep(Duration::ZERO).await.unwrap(), 0);
    // another upload of the same blob meets nothing of the first one's
    place.blobs.put_stream(body(&bytes), Some(digest), u64::MAX, FOREVER).await.unwrap();
    assert_eq!(place.blobs.verify(digest).await.unwrap(), Some(2_500_000));
    pieces.send(Ok(bytes.slice(2_000_000..))).unwrap();
    drop(pieces);
    assert_eq!(slow.await.unwrap().unwrap(), (digest, 2_500_000));
    assert_eq!(place.blobs.verify(digest).await.unwrap(), Some(2_500_000));
    assert_eq!(place.files(), [place.path(digest)]);
}

#[test]
fn only_the_end_of_trust_is_fatal() {
    use rustix::io::Errno;
    let of = |errno: Errno| put::harmless(&std::io::Error::from(errno));
    assert!(matches!(of(Errno::NOSPC), Some(BlobError::Full)));
    assert!(matches!(of(Errno::DQUOT), Some(BlobError::Full)));
    assert!(matches!(of(Errno::MFILE), Some(BlobError::Exhausted(_))));
    assert!(matches!(of(Errno::NFILE), Some(BlobError::Exhausted(_))));
    assert!(matches!(of(Errno::NOMEM), Some(BlobError::Exhausted(_))));
    assert!(of(Errno::IO).is_none() && of(Errno::NOENT).is_none() && of(Errno::ROFS).is_none());
}

#[tokio::test]
async fn a_stored_blob_is_pinned_and_not_written_again() {
    let place = Place::new();
    let bytes = pattern(2_500_000, 1);
    let digest = Digest::of(&bytes);
    place.blobs.put_bytes(bytes.clone(), NO_PIN).await.unwrap();
    let inode = |file: PathBuf| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(file).unwrap());
    let first = inode(place.path(digest));
    for expected in [None, Some(digest)] {
        place.blobs.put_stream(body(&bytes), expected, u64::MAX, Time(50)).await.unwrap();
    }
    assert_eq!((inode(place.path(digest)), place.files().len()), (first, 1));
    assert_eq!(place.blobs.collect_garbage(Time(49), 9).await.unwrap().blobs, 0);
    // that it is there excuses no wrong body
    let wrong = place.blobs.put_stream(body(&pattern(2_500_000, 2)), Some(digest), u64::MAX, NO_PIN).await;
    assert!(matches!(wrong, Err(BlobError::Mismatch { .. })));
}

#[tokio::test]
async fn part_of_a_file_can_be_put() {
    let place = Place::new();
    let bytes = pattern(2_000_000, 1);
    let memory = rustix::fs::memfd_create("outputs", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut memory = File::from(memory);
    memory.write_all(&bytes).unwrap();
    for (offset, size) in [(0, 2_000_000), (5, 1_999_995), (7, 100), (1_000, 1_048_576), (2_000_000, 0)] {
        let part = bytes.slice(offset..offset + size);
        let put = place.blobs.put_file(&memory, offset as u64, size as u64, Digest::of(&part), FOREVER);
        assert_eq!(put.await.unwrap(), named(&part));
        assert_eq!(place.read(Digest::of(&part), ALL).await.unwrap(), part);
    }
    let short = place.blobs.put_file(&memory, 10, 2_000_000, Digest::of(&bytes), FOREVER).await;
    assert!(matches!(short, Err(BlobError::Body(_))), "{short:?}");
}

#[tokio::test]
async fn ranges_are_exact_and_cut_to_the_blob() {
    let place = Place::new();
    for size in [10_000, 1_000_000] {
        let bytes = pattern(size, 1);
        let digest = place.blobs.put_bytes(bytes.clone(), FOREVER).await.unwrap().0;
        let end = size as u64;
        #[expect(clippy::reversed_empty_ranges, reason = "what a client may send")]
        for range in [
            0..end,
            0..1,
            end - 1..end,
            3..end - 3,
            5..5,
            0..end + 9,
            end - 2..u64::MAX,
            end + 1..end + 2,
            3..2,
        ] {
            let at = |index: u64| usize::try_from(index.min(end)).unwrap();
            let expected = bytes.get(at(range.start)..at(range.end)).unwrap_or_default();
            assert_eq!(place.read(digest, range).await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn damage_is_found_and_putting_again_heals_a_lost_file() {
    let place = Place::new();
    let bytes = pattern(1_000_000, 1);
    let digest = place.blobs.put_bytes(bytes.clone(), FOREVER).await.unwrap().0;
    let is_damaged = async |blobs: &Blobs| {
        assert!(matches!(blobs.open_blob(digest).await, Err(BlobError::Damaged { .. })));
        assert!(matches!(blobs.verify(digest).await, Err(BlobError::Damaged { .. })));
        let range = blobs.read_range(digest, 0..5).await;
        assert!(matches!(range, Err(BlobError::Damaged { .. })));
        let whole = match blobs.read_range(digest, ALL).await {
            Ok(stream) => stream.try_collect::<Vec<Bytes>>().await,
            Err(error) => Err(error),
        };
        assert!(matches!(whole, Err(BlobError::Damaged { .. })));
    };
    // one bit, in the middle; the time of the change is another one
    let file = File::options().write(true).open(place.path(digest)).unwrap();
    file.write_all_at(&[bytes[500_000] ^ 1], 500_000).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    is_damaged(&place.blobs).await;
    is_damaged(&place.again()).await;
    file.set_len(999_999).unwrap();
    is_damaged(&place.again()).await;
    std::fs::remove_file(place.path(digest)).unwrap();
    is_damaged(&place.again()).await;

    place.blobs.put_stream(body(&bytes), Some(digest), u64::MAX, FOREVER).await.unwrap();
    assert_eq!(place.read(digest, ALL).await.unwrap(), bytes);
    // and a row's own bytes
    let row = BlobRow { size: 5, inline: Some(Bytes::from_static(b"wrong")) };
    place.store.put_blob(Digest::of(b"right"), row, FOREVER).await.unwrap();
    let inline = place.blobs.open_blob(Digest::of(b"right")).await;
    assert!(matches!(inline, Err(BlobError::Damaged { .. })));
}

#[tokio::test]
async fn blobs_survive_a_restart_and_half_written_ones_do_not() {
    let place = Place::new();
    let bytes = pattern(1_000_000, 1);
    let digest = place.blobs.put_bytes(bytes.clone(), FOREVER).await.unwrap().0;
    std::fs::write(place.dir.path().join("blobs/incoming/0123"), b"half").unwrap();
    let again = place.again();
    assert_eq!(place.files(), [place.path(digest)]);
    let Some(BlobSource::File(file, size)) = again.open_blob(digest).await.unwrap() else {
        panic!("a file was expected");
    };
    let mut read = vec![0; usize::try_from(size).unwrap()];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
}

#[tokio::test]
async fn garbage_goes_with_its_file_and_the_rest_stays() {
    let place = Place::new();
    let put = |size, seed, pin| place.blobs.put_bytes(pattern(size, seed), pin);
    let loose = put(50_000, 1, NO_PIN).await.unwrap().0;
    let small = put(500, 2, NO_PIN).await.unwrap().0;
    let pinned = put(50_000, 3, Time(100)).await.unwrap().0;
    let collected = place.blobs.collect_garbage(Time(99), 9).await.unwrap();
    assert_eq!(collected, Freed { blobs: 2, bytes: 50_500 });
    for gone in [loose, small] {
        assert!(place.blobs.open_blob(gone).await.unwrap().is_none());
    }
    assert_eq!(place.files(), [place.path(pinned)]);
    assert_eq!(place.blobs.collect_garbage(Time(100), 9).await.unwrap().blobs, 1);
    assert_eq!(place.files(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collecting_never_takes_the_file_of_a_blob_that_is_put_meanwhile() {
    let place = Place::new();
    let bytes = pattern(20_000, 1);
    let digest = Digest::of(&bytes);
    for round in 0..40 {
        // half of the puts are announced, and some are given up in the middle
        let puts = (0..3).map(|put| {
            let (blobs, bytes) = (place.blobs.clone(), bytes.clone());
            let expected = (put % 2 == 0).then_some(digest);
            tokio::spawn(async move { blobs.put_stream(body(&bytes), expected, u64::MAX, NO_PIN).await })
        });
        let mut puts: Vec<_> = puts.collect();
        let collector = place.blobs.clone();
        let collecting = tokio::spawn(async move {
            for _ in 0..3 {
                collector.collect_garbage(FOREVER, 9).await.unwrap();
            }
        });
        if round % 4 == 0 {
            puts.pop().unwrap().abort();
        }
        for put in puts {
            put.await.unwrap().unwrap();
        }
        collecting.await.unwrap();
        match place.store.blob(digest).await.unwrap() {
            Some(_) => assert_eq!(place.blobs.verify(digest).await.unwrap(), Some(20_000)),
            None => place.blobs.collect_garbage(FOREVER, 9).await.map(drop).unwrap(),
        }
    }
}

#[tokio::test]
async fn the_sweep_takes_old_files_without_a_row_only() {
    let place = Place::new();
    let kept = place.blobs.put_bytes(pattern(50_000, 1), FOREVER).await.unwrap().0;
    let orphan = place.path(Digest::of(b"orphan"));
    std::fs::write(&orphan, b"orphan").unwrap();
    let half = place.dir.path().join("blobs/incoming/0192#1");
    std::fs::write(&half, b"half").unwrap();
    assert_eq!(place.blobs.sweep(Duration::from_secs(3_600)).await.unwrap(), 0);
    assert_eq!(place.files().len(), 3);
    assert_eq!(place.blobs.sweep(Duration::ZERO).await.unwrap(), 1, "an upload may still be under way");
    place.again();
    assert_eq!(place.files(), [place.path(kept)], "no upload outlives its process");
}

#[tokio::test]
async fn a_full_disk_refuses_blobs_and_harms_nothing() {
    let Some(disk) = crate::store::sqlite::tests::SmallDisk::mount("24M") else {
        eprintln!("not permitted to mount a small disk: skipped");
        return;
    };
    let failure = Failure::new();
    let dir = tempfile::tempdir().unwrap();
    // rows elsewhere, so that it is the files that find no room
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(dir.path(), Options::default(), failure.clone()).unwrap());
    let blobs = Blobs::open(disk.path(), Arc::clone(&store), failure.clone()).unwrap();
    let mut kept = Vec::new();
    let refused = loop {
        let seed = kept.len() as u64;
        match blobs.put_bytes(pattern(5_000_000, seed), NO_PIN).await {
            Ok(blob) => kept.push(blob.0),
            Err(error) => break error,
        }
        assert!(kept.len() < 10);
    };
    assert!(matches!(refused, BlobError::Full), "{refused:?}");
    assert_eq!(failure.reason(), None);
    for digest in &kept {
        assert_eq!(blobs.verify(*digest).await.unwrap(), Some(5_000_000));
    }
    assert_eq!(store.usage().await.unwrap().blobs, kept.len() as u64);
    // when there is room again it goes on
    blobs.collect_garbage(FOREVER, 1).await.unwrap();
    blobs.put_bytes(pattern(5_000_000, 99), NO_PIN).await.unwrap();
}
