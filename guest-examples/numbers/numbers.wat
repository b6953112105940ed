;; numbers: plain functions over each kind of number.
;;
;; Shows: exported functions with numeric arguments, no WASI at all; several results at once; a trap that is
;; the same on every worker (division by zero). `fib` is the usual measure of the cost of a call.
;;
;;     lockstep run guest-examples/prebuilt/numbers.wasm --entry fib 30
;;     lockstep run guest-examples/prebuilt/numbers.wasm --entry divide -- -17 5
;;     lockstep run guest-examples/prebuilt/numbers.wasm --entry hypot 3 4
;;     lockstep run guest-examples/prebuilt/numbers.wasm --entry average 1.5 2.5
(module
  ;; The n-th Fibonacci number by the definition, about 1.6^n calls; below 2 the argument itself.
  (func $fib (export "fib") (param $n i64) (result i64)
    (if (result i64) (i64.lt_s (local.get $n) (i64.const 2))
      (then (local.get $n))
      (else
        (i64.add
          (call $fib (i64.sub (local.get $n) (i64.const 1)))
          (call $fib (i64.sub (local.get $n) (i64.const 2)))))))

  ;; Quotient towards zero, and remainder. Traps where there is none: x / 0 and -2^63 / -1.
  (func (export "divide") (param $a i64) (param $b i64) (result i64 i64)
    (i64.div_s (local.get $a) (local.get $b))
    (i64.rem_s (local.get $a) (local.get $b)))

  ;; The long side of a right triangle.
  (func (export "hypot") (param $a f64) (param $b f64) (result f64)
    (f64.sqrt
      (f64.add
        (f64.mul (local.get $a) (local.get $a))
        (f64.mul (local.get $b) (local.get $b)))))

  ;; The mean of two single-precision numbers.
  (func (export "average") (param $a f32) (param $b f32) (result f32)
    (f32.mul (f32.add (local.get $a) (local.get $b)) (f32.const 0.5))))
