//! Frames survive the way, and nothing that comes can do harm.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::core::Class;
use crate::digest::Digest;
use crate::id::{Epoch, WorkspaceId};
use crate::protocol::agent::{Assignment, Beat, BlobBody, FromAgent, ToAgent, VoteReport};
use crate::result::Fault;
use crate::spec::RunSpec;

fn attempt() -> AttemptId {
    AttemptId { run: RunId(0x0192 << 112 | 7), number: 3 }
}

fn assignment() -> Assignment {
    let spec = RunSpec { args: vec!["-n".to_owned()], ..RunSpec::new(Digest::of(b"module")) };
    let run_key = spec.key();
    Assignment {
        attempt: attempt(),
        epoch: Epoch(4),
        mac: [1; 32],
        nonce: [2; 16],
        workspace: WorkspaceId(5),
        spec: Arc::new(spec),
        run_key,
        inline: Arc::new([(Digest::of(b"in"), Bytes::from_static(b"in"))].into()),
        timeout_ms: 9,
        live: true,
    }
}

fn vote() -> VoteReport {
    VoteReport {
        attempt: attempt(),
        epoch: Epoch(4),
        nonce: [2; 16],
        run_key: Digest::of(b"key"),
        class: Class(Digest::of(b"class")),
        artifact: Digest::of(b"artifact"),
        result: Digest::of(b"result"),
        manifest: Bytes::from_static(b"{}"),
        inline: vec![(Digest::of(b"out"), Bytes::from_static(b"out"))],
        cpu_us: 11,
        begun_at_us: 12,
        proof: None,
    }
}

fn there_and_back<F: Serialize + DeserializeOwned>(frames: &[F]) -> Vec<F> {
    let mut batch = Batch::default();
    assert!(batch.is_empty());
    for frame in frames {
        batch.push(frame).unwrap();
    }
    let message = batch.take();
    assert!(batch.is_empty());
    decode(&message).unwrap()
}

#[test]
fn what_a_coordinator_says_arrives() {
    let said = [
        ToAgent::Assign(Box::new(assignment())),
        ToAgent::Abort(attempt()),
        ToAgent::Collect { attempt: attempt(), digests: vec![Digest::EMPTY] },
        ToAgent::Release(attempt()),
        ToAgent::Watch(attempt()),
        ToAgent::Drain { within_ms: 5 },
    ];
    let mut frames: Vec<ToWorker> = said.iter().map(ToWorker::from).collect();
    frames.extend([ToWorker::Taken { messages: 3 }, ToWorker::Patience { ms: 5 }]);
    let heard = there_and_back(&frames);
    assert_eq!(format!("{heard:?}"), format!("{frames:?}"));
    let Some(ToWorker::Assign(frame)) = heard.into_iter().next() else { panic!("an assignment") };
    assert_eq!(frame.name(), (attempt(), Epoch(4)));
    let arrived = Assignment::try_from(*frame).unwrap();
    assert_eq!(format!("{arrived:?}"), format!("{:?}", assignment()));
}

#[test]
fn a_spec_that_does_not_hash_to_its_run_key_is_refused_by_name() {
    let mut wrong = assignment();
    wrong.run_key = Digest::of(b"another");
    let frame = to_worker::Assign::from(&wrong);
    assert_eq!(Assignment::try_from(frame).unwrap_err(), WireError::RunKey(attempt()));
}

#[test]
fn what_a_worker_says_arrives() {
    let begun_at_us = Some(1);
    let faults = [
        Fault::Crashed { signal: Some(9), detail: "killed".to_owned() },
        Fault::TimedOut,
        Fault::Lost,
        Fault::Refused { detail: "no".to_owned() },
        Fault::Corrupt { detail: "bad".to_owned() },
        Fault::Drained,
    ];
    let said = || {
        let beat = Beat { attempt: attempt(), cpu_us: 1, begun_at_us };
        let bodies = vec![
            (Digest::of(b"a"), BlobBody::Inline(Bytes::from_static(b"a"))),
            (Digest::of(b"b"), BlobBody::Stored { size: 7 }),
        ];
        let others = [
            FromAgent::Credits { credits: 3, received: 9 },
            FromAgent::Heartbeat(vec![beat]),
            FromAgent::Voted(Box::new(vote())),
            FromAgent::Blobs { attempt: attempt(), blobs: bodies },
            FromAgent::Live {
                attempt: attempt(),
                is_stderr: true,
                offset: 4,
                bytes: Bytes::from_static(b"x"),
            },
            FromAgent::Drained,
        ];
        let faulted = faults.clone().map(|fault| FromAgent::Faulted {
            attempt: attempt(),
            epoch: Epoch(4),
            fault,
            begun_at_us,
            cpu_us: 8,
        });
        others.into_iter().chain(faulted)
    };
    let frames: Vec<FromWorker> = said().map(|message| FromWorker::of(message).unwrap()).collect();
    let heard: Vec<_> = there_and_back(&frames).into_iter().map(|frame| frame.message().unwrap()).collect();
    assert_eq!(format!("{heard:?}"), format!("{:?}", said().collect::<Vec<_>>()));
    let signature = Signed::from([7; 64]);
    let heard = there_and_back(&[FromWorker::Signature(signature.clone())]);
    assert!(matches!(&heard[..], [FromWorker::Signature(there)] if *there == signature));
}

#[test]
fn the_text_of_a_fault_is_cut_and_cleaned() {
    let fault = Fault::Refused { detail: format!("\u{1b}[2J{}", "ä".repeat(2_000)) };
    let Fault::Refused { detail } = Fault::from(from_worker::FaultFrame::from(fault)) else { panic!() };
    assert!(detail.len() <= 1_000 && !detail.contains(char::is_control), "{detail}");
}

fn facts() -> Facts {
    Facts {
        version: VERSION,
        name: "a".to_owned(),
        class: Digest::of(b"class"),
        slots: 4,
        memory_bytes: 1 << 30,
        labels: vec![("zone".to_owned(), "b".to_owned())],
        holds: vec![Hold { attempt: attempt().into(), epoch: 4, mac: [3; 32] }],
        build: "1".to_owned(),
        portable: Digest::of(b"portable"),
        portable_code: Digest::of(b"code"),
        about: vec!["{}".to_owned()],
    }
}

#[test]
fn a_hello_is_bound_to_its_challenge_and_key() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let hello = Hello::sign(&facts(), &[9; 32], &key).unwrap();
    let message = encode_handshake(&hello).unwrap();
    let mut arrived: Hello = decode_handshake(&message).unwrap();
    assert_eq!(arrived.verify(&[9; 32]), Ok(facts()));
    assert_eq!(arrived.verify(&[8; 32]), Err(WireError::Signature));
    arrived.key = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
    assert_eq!(arrived.verify(&[9; 32]), Err(WireError::Signature));
}

#[test]
fn a_greeting_is_no_batch_and_a_batch_no_greeting() {
    let rejected = Greeting::Rejected { code: "token".to_owned(), text: "give one".to_owned() };
    let message = encode_handshake(&rejected).unwrap();
    assert_eq!(decode_handshake::<Greeting>(&message), Ok(rejected));
    assert_eq!(decode::<ToWorker>(&message).unwrap_err(), WireError::Kind(0));
    assert_eq!(decode_handshake::<Greeting>(&[1]).unwrap_err(), WireError::Kind(1));
    assert!(decode::<ToWorker>(&[]).is_err() && decode_handshake::<Greeting>(&[]).is_err());
    assert!(RejectCode::is_permanent("token") && !RejectCode::is_permanent("full"));
    assert!(!RejectCode::is_permanent("of_tomorrow"));
}

#[test]
fn bounds_are_kept_in_both_directions() {
    let mut batch = Batch::default();
    let large = FromWorker::Live {
        attempt: attempt().into(),
        is_stderr: false,
        offset: 0,
        bytes: Bytes::from(vec![0; FRAME_BYTES_MAX]),
    };
    batch.push(&FromWorker::Drained).unwrap();
    assert!(matches!(batch.push(&large), Err(WireError::TooLarge { .. })));
    assert_eq!(decode::<FromWorker>(&batch.take()).unwrap().len(), 1, "what was there is still whole");
    batch.push(&FromWorker::Drained).unwrap();
    let drained = batch.take()[1];
    let many = [vec![VERSION_BYTE], vec![drained; FRAMES_MAX + 1]].concat();
    assert_eq!(decode::<FromWorker>(&many).unwrap_err(), WireError::TooMany);
    assert_eq!(decode::<FromWorker>(&many[..=FRAMES_MAX]).unwrap().len(), FRAMES_MAX);
    let mut long = facts();
    long.labels = vec![(String::new(), String::new()); LABELS_MAX + 1];
    assert!(decode_whole::<Facts>(&encode_whole(&long).unwrap()).is_err());
}

/// About what decoded frames take in memory.
fn footprint(frames: &[FromWorker]) -> usize {
    let inner = |frame: &FromWorker| match frame {
        FromWorker::Heartbeat(beats) => size_of_val(&beats[..]),
        FromWorker::Blobs { blobs, .. } => size_of_val(&blobs[..]),
        FromWorker::Voted(_) => 512,
        _ => 0,
    };
    size_of_val(frames) + frames.iter().map(inner).sum::<usize>()
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..4_096), versioned: bool) {
        if versioned && let Some(first) = bytes.first_mut() {
            *first = VERSION_BYTE;
        }
        if let Ok(frames) = decode::<FromWorker>(&bytes) {
            prop_assert!(footprint(&frames) <= 4 * bytes.len() + 512 * frames.len());
            for frame in frames {
                drop(frame.message());
            }
        }
        if let Ok(frames) = decode::<ToWorker>(&bytes) {
            for frame in frames {
                if let ToWorker::Assign(frame) = frame {
                    drop(Assignment::try_from(*frame));
                }
            }
        }
        drop(decode_handshake::<Greeting>(&bytes));
        if let Ok(hello) = decode_handshake::<Hello>(&bytes) {
            prop_assert!(hello.verify(&[0; 32]).is_err());
        }
        drop(decode_whole::<Facts>(&bytes));
    }

    #[test]
    fn a_damaged_message_does_no_harm(at in 0_usize..400, byte: u8) {
        let mut batch = Batch::default();
        batch.push(&ToWorker::from(&ToAgent::Assign(Box::new(assignment())))).unwrap();
        let mut message = batch.take().to_vec();
        let at = at % message.len();
        message[at] = byte;
        for frame in decode::<ToWorker>(&message).unwrap_or_default() {
            if let ToWorker::Assign(frame) = frame {
                drop(Assignment::try_from(*frame));
            }
        }
        message.truncate(at);
        drop(decode::<ToWorker>(&message));
    }
}
