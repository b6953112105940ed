//! Votes, outputs, inputs: what comes of attempts that end by themselves.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::protocol::agent::{BlobBody, FromAgent, ToAgent};
use lockstep::result::{Fault, Outcome, Trap};
use lockstep::spec::FileInput;

use super::{Blobs, Pool, manifest, outcome, stdout};

#[tokio::test]
async fn hello_is_voted_with_its_output() {
    let mut pool = Pool::start(1).await;
    let attempt = pool.run("hello").await;
    let vote = pool.vote(attempt).await;
    assert_eq!(outcome(&vote), Outcome::Exited { code: 0 });
    assert_eq!(stdout(&vote), "hello\n");
    assert_eq!(vote.run_key, pool.spec("hello").key());
    assert_ne!(vote.artifact, pool.verbs);
    pool.end().await;
}

#[tokio::test]
async fn exit_codes_and_traps_are_outcomes_and_vote() {
    let mut pool = Pool::start(1).await;
    let exit = pool.run("x").await;
    assert_eq!(outcome(&*pool.vote(exit).await), Outcome::Exited { code: 7 });
    let trap = pool.run("t").await;
    assert_eq!(outcome(&*pool.vote(trap).await), Outcome::Trapped { trap: Trap::Unreachable });
    let recursion = pool.run("r").await;
    assert_eq!(outcome(&*pool.vote(recursion).await), Outcome::Trapped { trap: Trap::StackOverflow });
    let mut spec = pool.spec("l");
    spec.limits.fuel = Some(100_000);
    let fueled = pool.assign(spec, |_| ()).await;
    assert_eq!(outcome(&*pool.vote(fueled).await), Outcome::OutOfFuel);
}

#[tokio::test]
async fn every_vote_on_the_same_spec_is_the_same() {
    let mut pool = Pool::start(2).await;
    let attempts = [pool.run("hello").await, pool.run("hello").await];
    let mut votes = Vec::new();
    for _ in attempts {
        votes.push(
            pool.hear(|message| match message {
                FromAgent::Voted(vote) => Ok(vote),
                other => Err(other.into()),
            })
            .await,
        );
    }
    assert_eq!((votes[0].result, votes[0].artifact), (votes[1].result, votes[1].artifact));
    assert_ne!(votes[0].attempt, votes[1].attempt);
}

#[tokio::test]
async fn credits_are_absolute_and_say_what_they_count() {
    let mut pool = Pool::start(2).await;
    let credits = |message| match message {
        FromAgent::Credits { credits, received } => Ok((credits, received)),
        other => Err(other.into()),
    };
    assert_eq!(pool.hear(credits).await, (2, 0));
    let attempt = pool.run("hello").await;
    pool.vote(attempt).await;
    assert_eq!(pool.hear(credits).await, (2, 1));
}

#[tokio::test]
async fn large_outputs_are_collected_from_the_file_in_which_they_were_left() {
    let mut pool = Pool::start(1).await;
    let attempt = pool.run("big").await;
    let vote = pool.vote(attempt).await;
    let output = manifest(&vote).stdout;
    assert_eq!(output.size, 8 << 20);
    assert!(vote.inline.is_empty());
    let digests = vec![output.digest, vote.result, Digest::of(b"unknown")];
    pool.agent.to.send(ToAgent::Collect { attempt, digests: digests.clone() }).await.unwrap();
    let blobs = |message| match message {
        FromAgent::Blobs { blobs, .. } => Ok(blobs),
        other => Err(other.into()),
    };
    let mut found = BTreeMap::new();
    for (digest, body) in pool.hear(blobs).await {
        let bytes = match body {
            BlobBody::Inline(bytes) => bytes,
            BlobBody::File { file, offset, size } => {
                let mut bytes = vec![0; size as usize];
                file.read_exact_at(&mut bytes, offset).unwrap();
                bytes.into()
            }
            BlobBody::Stored { .. } => panic!("an embedded agent puts nothing anywhere"),
        };
        found.insert(digest, bytes);
    }
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|(digest, bytes)| Digest::of(bytes) == *digest));
    pool.release(attempt).await;
    pool.agent.to.send(ToAgent::Collect { attempt, digests }).await.unwrap();
    assert_eq!(pool.hear(blobs).await.len(), 0, "they were released");
}

#[tokio::test]
async fn an_agent_whose_outputs_wait_for_collection_takes_no_work() {
    let mut pool = Pool::with(1, Blobs::default(), |config| config.outputs_bytes_max = 1 << 20).await;
    let first = pool.run("big").await;
    pool.vote(first).await;
    let second = pool.run("hello").await;
    let (fault, ..) = pool.fault(second).await;
    assert!(matches!(fault, Fault::Refused { .. }), "{fault:?}");
    pool.release(first).await;
    let third = pool.run("hello").await;
    pool.vote(third).await;
}

#[tokio::test]
async fn inputs_reach_the_guest_whatever_their_size() {
    for size in [0, 10, 9_000, 100_000, 3_000_000] {
        let input: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let mut blobs = Blobs::default();
        let digest = blobs.add(input.clone());
        let mut pool = Pool::with(1, blobs, |_| ()).await;
        let mut spec = pool.spec("copy");
        spec.stdin = digest;
        let attempt = pool.assign(spec.clone(), |_| ()).await;
        let fetched = pool.vote(attempt).await;
        assert_eq!(manifest(&fetched).stdout.digest, digest, "{size} bytes");
        let given = Arc::new(BTreeMap::from([(digest, Bytes::from(input))]));
        let attempt = pool.assign(spec, |assignment| assignment.inline = given).await;
        assert_eq!(pool.vote(attempt).await.result, fetched.result);
    }
}

#[tokio::test]
async fn as_many_input_files_as_a_run_may_have_are_handed_over() {
    let mut blobs = Blobs::default();
    let mut files = BTreeMap::new();
    for number in 0..lockstep::spec::FILES_MAX {
        // Every fourth is too large to be inline.
        let size = if number % 4 == 0 { 10_001 } else { 100 };
        let digest = blobs.add(format!("{number:>size$}"));
        files.insert(format!("/data/{number}").parse().unwrap(), FileInput::Blob(digest));
    }
    let mut pool = Pool::with(1, blobs, |_| ()).await;
    let mut spec = pool.spec("hello");
    spec.files = files;
    let attempt = pool.assign(spec, |_| ()).await;
    assert_eq!(outcome(&*pool.vote(attempt).await), Outcome::Exited { code: 0 });
}

#[tokio::test]
async fn what_is_missing_or_damaged_is_refused_and_nothing_has_begun() {
    let mut pool = Pool::start(1).await;
    let mut absent = pool.spec("copy");
    absent.stdin = Digest::of(b"absent");
    let mut no_module = pool.spec("hello");
    no_module.module = Digest::of(b"no module");
    let mut no_entry = pool.spec("hello");
    no_entry.entry = "nothing".into();
    for spec in [absent, no_module, no_entry] {
        let attempt = pool.assign(spec, |_| ()).await;
        let (fault, begun_at, _) = pool.fault(attempt).await;
        assert!(matches!(fault, Fault::Refused { .. }), "{fault:?}");
        assert_eq!(begun_at, None);
    }
    let mut damaged = pool.spec("copy");
    damaged.stdin = Digest::of(b"right");
    let inline = Arc::new(BTreeMap::from([(damaged.stdin, Bytes::from_static(b"wrong"))]));
    let attempt = pool.assign(damaged, |assignment| assignment.inline = inline).await;
    assert!(matches!(pool.fault(attempt).await.0, Fault::Refused { .. }));
    let next = pool.run("hello").await;
    pool.vote(next).await;
}

#[tokio::test]
async fn output_is_heard_as_it_comes_from_the_beginning_or_later() {
    let mut pool = Pool::start(1).await;
    for from_the_beginning in [true, false] {
        let spec = pool.spec("write for ever");
        let attempt = pool.assign(spec, |assignment| assignment.live = from_the_beginning).await;
        if !from_the_beginning {
            pool.begun(attempt).await;
            pool.agent.to.send(ToAgent::Watch(attempt)).await.unwrap();
        }
        let mut position = None;
        while position.is_none_or(|position| position < 60) {
            let (of, offset, bytes) = pool
                .hear(|message| match message {
                    FromAgent::Live { attempt, is_stderr: false, offset, bytes } => {
                        Ok((attempt, offset, bytes))
                    }
                    other => Err(other.into()),
                })
                .await;
            assert_eq!(of, attempt);
            if from_the_beginning && position.is_none() {
                assert_eq!(offset, 0);
            }
            assert!(position.is_none_or(|position| position <= offset));
            let expected = b"hello\n".iter().cycle().skip((offset % 6) as usize);
            assert!(bytes.iter().eq(expected.take(bytes.len())), "{bytes:?}");
            position = Some(offset + bytes.len() as u64);
        }
        pool.agent.to.send(ToAgent::Abort(attempt)).await.unwrap();
    }
}

#[tokio::test]
async fn all_of_a_watched_short_attempts_output_is_heard_before_its_vote() {
    let mut pool = Pool::start(1).await;
    let spec = pool.spec("hello");
    let attempt = pool.assign(spec, |assignment| assignment.live = true).await;
    let live = |message| match message {
        FromAgent::Live { bytes, .. } => Ok(bytes),
        other => Err(other.into()),
    };
    assert_eq!(pool.hear(live).await, "hello\n");
    pool.vote(attempt).await;
}
