;; primes: counts, finds and tests prime numbers.
;;
;; Shows: exported functions with numeric arguments and a memory that grows with the question; no WASI.
;;
;;     lockstep run guest-examples/prebuilt/primes.wasm --entry count 100000
;;     lockstep run guest-examples/prebuilt/primes.wasm --entry nth 10000
;;     lockstep run guest-examples/prebuilt/primes.wasm --entry is_prime 1000000000039
;;
;; `count` and `nth` sieve (Eratosthenes) over the odd numbers: the byte at address i stands for 2i + 1 and is
;; 1 if that is composite. So a limit needs half as many bytes of memory; where the memory limit refuses
;; them the function traps (unreachable).
(module
  (memory (export "memory") 1)

  ;; Marks the composites up to $limit, and answers how many bytes stand for odd numbers up to it.
  (func $sieve (param $limit i32) (result i32)
    (local $bytes i32) (local $missing i32) (local $prime i32) (local $at i32)
    (local.set $bytes
      (i32.shr_u (i32.add (local.get $limit) (i32.const 1)) (i32.const 1)))
    ;; Whole pages of 64 KiB beyond those that are there.
    (local.set $missing
      (i32.sub
        (i32.shr_u (i32.add (local.get $bytes) (i32.const 65535)) (i32.const 16))
        (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then
        (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1))
          (then (unreachable)))))
    (memory.fill (i32.const 0) (i32.const 0) (local.get $bytes))
    ;; 1 is no prime.
    (if (local.get $bytes) (then (i32.store8 (i32.const 0) (i32.const 1))))
    (local.set $prime (i32.const 3))
    (block $done
      (loop $next
        ;; prime² > limit, without overflow: beyond 46340 the square exceeds 2^31.
        (br_if $done (i32.gt_s (local.get $prime) (i32.const 46340)))
        (br_if $done
          (i32.gt_s (i32.mul (local.get $prime) (local.get $prime)) (local.get $limit)))
        (if (i32.eqz (i32.load8_u (i32.shr_u (local.get $prime) (i32.const 1))))
          (then
            ;; From prime² in steps of 2·prime, which are steps of prime bytes.
            (local.set $at
              (i32.shr_u (i32.mul (local.get $prime) (local.get $prime)) (i32.const 1)))
            (block $struck
              (loop $strike
                (br_if $struck (i32.ge_u (local.get $at) (local.get $bytes)))
                (i32.store8 (local.get $at) (i32.const 1))
                (local.set $at (i32.add (local.get $at) (local.get $prime)))
                (br $strike)))))
        (local.set $prime (i32.add (local.get $prime) (i32.const 2)))
        (br $next)))
    (local.get $bytes))

  ;; How many primes there are up to $limit, which counts itself; 0 for negative limits.
  (func $count (export "count") (param $limit i32) (result i32)
    (local $bytes i32) (local $at i32) (local $found i32)
    (if (i32.lt_s (local.get $limit) (i32.const 2)) (then (return (i32.const 0))))
    (local.set $bytes (call $sieve (local.get $limit)))
    ;; The even prime.
    (local.set $found (i32.const 1))
    (loop $next
      (local.set $found
        (i32.add (local.get $found) (i32.eqz (i32.load8_u (local.get $at)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $bytes))))
    (local.get $found))

  ;; The n-th prime (the first is 2); 0 where n < 1. Traps for primes beyond 2^30.
  (func (export "nth") (param $n i32) (result i32)
    (local $limit i32) (local $at i32)
    (if (i32.lt_s (local.get $n) (i32.const 1)) (then (return (i32.const 0))))
    (if (i32.eq (local.get $n) (i32.const 1)) (then (return (i32.const 2))))
    (local.set $limit (i32.const 1024))
    (block $enough
      (loop $double
        (br_if $enough (i32.ge_s (call $count (local.get $limit)) (local.get $n)))
        (if (i32.eq (local.get $limit) (i32.const 0x40000000)) (then (unreachable)))
        (local.set $limit (i32.shl (local.get $limit) (i32.const 1)))
        (br $double)))
    ;; The sieve is still in the memory: walk over n - 1 odd primes.
    (loop $next
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.load8_u (local.get $at)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (i32.gt_s (local.get $n) (i32.const 1))))
    (i32.add (i32.shl (local.get $at) (i32.const 1)) (i32.const 1)))

  ;; 1 if $n is prime, else 0, by trial division with the numbers 6k ± 1.
  (func (export "is_prime") (param $n i64) (result i32)
    (local $divisor i64)
    (if (i64.lt_s (local.get $n) (i64.const 4))
      (then (return (i64.gt_s (local.get $n) (i64.const 1)))))
    (if (i64.eqz (i64.rem_s (local.get $n) (i64.const 2))) (then (return (i32.const 0))))
    (if (i64.eqz (i64.rem_s (local.get $n) (i64.const 3))) (then (return (i32.const 0))))
    (local.set $divisor (i64.const 5))
    (block $prime
      (loop $next
        ;; divisor² > n, without overflow.
        (br_if $prime
          (i64.gt_s (local.get $divisor) (i64.div_s (local.get $n) (local.get $divisor))))
        (if (i64.eqz (i64.rem_s (local.get $n) (local.get $divisor)))
          (then (return (i32.const 0))))
        (if (i64.eqz
              (i64.rem_s (local.get $n) (i64.add (local.get $divisor) (i64.const 2))))
          (then (return (i32.const 0))))
        (local.set $divisor (i64.add (local.get $divisor) (i64.const 6)))
        (br $next)))
    (i32.const 1)))
