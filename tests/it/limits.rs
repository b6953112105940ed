//! What stands between the limits of a run and those of the machinery: reaching either is an answer.

use serde_json::json;

use crate::support::{Pool, wat};

/// Leaves `files` files under a path of 3,754 bytes.
fn long_paths(files: u32) -> Vec<u8> {
    wat(&format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "out")
  (func (export "_start") (local $i i32) (local $at i32) (local $left i32)
    (memory.fill (i32.const 1027) (i32.const 100) (i32.const 4000))
    (loop $directory
      (i32.store8 (i32.add (i32.const 1027) (i32.mul (local.get $i) (i32.const 250))) (i32.const 47))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (if (i32.le_u (local.get $i) (i32.const 15)) (then
        (if (call $mkdir (i32.const 3) (i32.const 1024)
              (i32.add (i32.const 3) (i32.mul (local.get $i) (i32.const 250))))
          (then (call $exit (i32.const 9))))
        (br $directory))))
    (local.set $i (i32.const 0))
    (loop $file
      (local.set $left (local.get $i))
      (local.set $at (i32.const 4783))
      (loop $digit
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $left) (i32.const 10))))
        (local.set $left (i32.div_u (local.get $left) (i32.const 10)))
        (br_if $digit (i32.gt_u (local.get $at) (i32.const 4778))))
      (if (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 3759) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0))
        (then (call $exit (i32.const 8))))
      (drop (call $close (i32.load (i32.const 0))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $file (i32.lt_u (local.get $i) (i32.const {files}))))))"#
    ))
}

#[tokio::test]
async fn paths_of_output_files_that_are_too_long_together_are_an_outcome() {
    let pool = Pool::with(&["--workers", "3", "--slots", "1", "--set", "hedge_permille=0"]).await;
    let limits = json!({"file_count": 65_536});
    let fit = pool.push(long_paths(400)).await;
    let run = pool.run(json!({"module": fit, "limits": limits})).await;
    assert_eq!(run["outcome"], json!({"kind": "exited", "code": 0}), "{}", run["outcome"]);
    assert_eq!(run["files"].as_array().map(Vec::len), Some(400));
    // 65,000 of them would make a manifest of 245 MB
    for files in [4_600, 65_000] {
        let module = pool.push(long_paths(files)).await;
        let run = pool.run(json!({"module": module, "limits": limits})).await;
        assert_eq!(run["reason"], "output_limit", "{run}");
        assert_eq!(run["verdict"]["kind"], "agreed", "{run}");
        assert_eq!(run["attempts"].as_array().map(Vec::len), Some(2), "it is an answer: {run}");
    }
}
