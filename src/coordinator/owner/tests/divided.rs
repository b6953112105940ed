//! Runs whose votes never agree.

use super::*;
use crate::result::VerdictKind;

#[tokio::test]
async fn of_a_disputed_run_one_of_each_result_can_be_read_whether_or_not_it_is_written() {
    for durable in [false, true] {
        let mut bench = Bench::new();
        let workers = [1, 2, 3, 4].map(|number| bench.join(number));
        let quorum = Policy { verify: Verify::Quorum { n: 2 }, durable, ..Policy::default() };
        let (run, answer) = bench.submit_with(quorum);
        let outs = workers.map(|worker| format!("said by {worker}"));
        let mut voted = 0;
        // the last two are asked because the first two differ
        while voted < workers.len() {
            bench.commit_all();
            let before = voted;
            for (worker, out) in workers.iter().zip(&outs) {
                if let Ok(ToAgent::Assign(assignment)) = bench.workers.get_mut(worker).unwrap().try_recv() {
                    bench.votes(*worker, &assignment, out.as_bytes(), b"file", true);
                    voted += 1;
                }
            }
            assert!(voted > before, "nobody more is asked after {voted} votes");
        }
        let finals = bench.commit_all();
        let detail = answer.await.unwrap().unwrap();
        assert_eq!((detail.run.id, detail.run.verdict.kind), (run, VerdictKind::Disputed));
        assert_eq!(detail.run.dissents.len(), 4, "durable: {durable}");
        let mut kept: Vec<Digest> = outs.iter().map(|out| Digest::of(out.as_bytes())).collect();
        kept.extend(detail.run.dissents.iter().map(|(_, manifest)| *manifest));
        if durable {
            assert!(kept.iter().all(|one| finals[0].blobs.iter().any(|(digest, _)| digest == one)));
        } else {
            eventually(async || {
                bench.store.missing_blob(kept.clone()).await.unwrap().is_none().then_some(())
            })
            .await;
        }
    }
}
