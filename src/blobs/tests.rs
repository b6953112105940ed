//! Blobs over a real store and real files.

use super::*;
use crate::store::sqlite::{Options, SqliteStore};

struct Fixture {
    blobs: Blobs,
    store: Arc<dyn Store>,
    dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let failure = Failure::new();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(dir.path(), Options::default(), failure.clone()).unwrap());
    let blobs = Blobs::open(&dir.path().join("blobs"), Arc::clone(&store), failure).unwrap();
    Fixture { blobs, store, dir }
}

fn files_in(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files_in(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

async fn read(blobs: &Blobs, digest: Digest, range: Range<u64>) -> Result<Vec<u8>, BlobError> {
    let mut stream = blobs.read_range(digest, range).await?;
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

fn body(pieces: &[&[u8]]) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + Unpin + use<> {
    stream::iter(pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>())
}

#[tokio::test]
async fn small_and_large_blobs_come_back_whole_and_in_part() {
    let fixture = fixture();
    for size in [1, 100, INLINE_BLOB_BYTES_MAX, INLINE_BLOB_BYTES_MAX + 1, 3 * CHUNK + 17] {
        let bytes: Vec<u8> = (0..size).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let (digest, stored) = fixture.blobs.put_bytes(bytes.clone().into(), Time(1)).await.unwrap();
        assert_eq!((digest, stored), (Digest::of(&bytes), size as u64));
        assert_eq!(read(&fixture.blobs, digest, 0..u64::MAX).await.unwrap(), bytes);
        let middle = size / 3..size / 2;
        let part = read(&fixture.blobs, digest, middle.start as u64..middle.end as u64).await.unwrap();
        assert_eq!(part, &bytes[middle]);
    }
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let fixture = fixture();
    let large = vec![7_u8; 2 * CHUNK];
    let expected = Digest::of(b"something else");
    let mismatch = fixture.blobs.put_stream(body(&[&large]), Some(expected), u64::MAX, Time(1)).await;
    assert!(matches!(mismatch, Err(BlobError::Mismatch { .. })));
    let too_large =
        fixture.blobs.put_stream(body(&[&large, &large]), None, large.len() as u64, Time(1)).await;
    assert!(matches!(too_large, Err(BlobError::TooLarge { .. })));
    let broken = stream::iter([Ok(Bytes::from(large.clone())), Err(io::Error::other("cut"))]);
    assert!(matches!(
        fixture.blobs.put_stream(broken, None, u64::MAX, Time(1)).await,
        Err(BlobError::Body(text)) if text == "cut"
    ));
    assert_eq!(fixture.store.usage().await.unwrap().blobs, 0);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !files_in(&fixture.dir.path().join("blobs")).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", files_in(&fixture.dir.path().join("blobs")));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_damaged_file_is_not_handed_out() {
    let fixture = fixture();
    let bytes = vec![1_u8; CHUNK];
    let (digest, _) = fixture.blobs.put_bytes(bytes.into(), Time(1)).await.unwrap();
    let file = files_in(&fixture.dir.path().join("blobs")).pop().unwrap();
    assert!(fixture.blobs.open_blob(digest).await.is_ok());
    std::fs::write(&file, vec![2_u8; CHUNK]).unwrap();
    assert!(matches!(fixture.blobs.open_blob(digest).await, Err(BlobError::Damaged(_))));
    std::fs::write(&file, b"short").unwrap();
    assert!(matches!(fixture.blobs.open_blob(digest).await, Err(BlobError::Damaged(_))));
}

#[tokio::test]
async fn garbage_goes_when_its_pin_has_ended_and_comes_back_when_it_is_put_again() {
    let fixture = fixture();
    let bytes = Bytes::from(vec![3_u8; CHUNK]);
    let (digest, size) = fixture.blobs.put_bytes(bytes.clone(), Time(1_000)).await.unwrap();
    assert_eq!(fixture.blobs.collect_garbage(Time(999), 10).await.unwrap(), Freed::default());
    let freed = fixture.blobs.collect_garbage(Time(2_000), 10).await.unwrap();
    assert_eq!(freed, Freed { blobs: 1, bytes: size });
    assert!(fixture.blobs.open_blob(digest).await.unwrap().is_none());
    assert!(files_in(&fixture.dir.path().join("blobs")).is_empty());
    fixture.blobs.put_bytes(bytes.clone(), Time(9_000)).await.unwrap();
    assert_eq!(read(&fixture.blobs, digest, 0..u64::MAX).await.unwrap(), bytes);
}

#[tokio::test]
async fn collecting_never_takes_what_is_being_put() {
    let fixture = Arc::new(fixture());
    let bytes = Bytes::from(vec![4_u8; CHUNK]);
    let digest = Digest::of(&bytes);
    for round in 1..40 {
        let now = Time(round * 10);
        let (one, two) = (Arc::clone(&fixture), Arc::clone(&fixture));
        let again = bytes.clone();
        let put = tokio::spawn(async move { one.blobs.put_bytes(again, Time(now.0 + 5)).await.map(drop) });
        let collect = tokio::spawn(async move { two.blobs.collect_garbage(now, 10).await.map(drop) });
        put.await.unwrap().unwrap();
        collect.await.unwrap().unwrap();
        assert_eq!(read(&fixture.blobs, digest, 0..u64::MAX).await.unwrap(), bytes, "round {round}");
    }
}
