#!/usr/bin/env bash
# Rebuilds the guest examples into prebuilt/ and writes their digests to prebuilt/SHA256SUMS.
#
#   guest-examples/build.sh           build everything
#   guest-examples/build.sh --check   build into a temporary directory and compare with SHA256SUMS
#
# Needs:
#   Rust guests   rustup target add wasm32-wasip1
#   C guests      pip install ziglang    (or any clang with a WASI sysroot, as WASM_CC)
#   WAT guests    npm install -g wabt    (or any other wat2wasm, as WAT2WASM)
#
# WASM_CARGO, WASM_CC and WAT2WASM name other commands for the three. The same compilers give the same bytes in
# any directory; README.md says which ones they were. Other compilers give other digests.
set -euo pipefail
cd "$(dirname "$0")"

read -ra cargo <<<"${WASM_CARGO:-cargo}"
read -ra cc <<<"${WASM_CC:-python3 -m ziglang cc}"
read -ra wat2wasm <<<"${WAT2WASM:-wat2wasm}"

target=wasm32-wasip1
out=prebuilt
if [[ ${1:-} == --check ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi

build_rust() {
  # No path of the building machine in a guest, else its bytes would depend on where it was built.
  export RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/guest"
  "${cargo[@]}" build --release --locked --target $target
  for name in misbehave montecarlo verify-signatures wordcount; do
    cp "target/$target/release/$name.wasm" "$out/$name.wasm"
  done
}

compile_c() {
  "${cc[@]}" -target wasm32-wasi -O2 -Wall -Wextra -Werror -s "$@"
}

build_c() {
  compile_c -nostdlib hello/hello.c -o "$out/hello.wasm"
  compile_c mandelbrot/mandelbrot.c -o "$out/mandelbrot.wasm"
  compile_c -mexec-model=reactor reactor/reactor.c -o "$out/reactor.wasm"
}

build_wat() {
  for name in numbers primes; do
    "${wat2wasm[@]}" "$name/$name.wat" -o "$out/$name.wasm"
  done
}

build_rust
build_c
build_wat
# Linkers make them executable, but the host executes none of them.
chmod 644 "$out"/*.wasm
if [[ $out == prebuilt ]]; then
  (cd prebuilt && sha256sum -- *.wasm >SHA256SUMS && cat SHA256SUMS)
else
  (cd "$out" && sha256sum --check "$OLDPWD/prebuilt/SHA256SUMS")
fi
