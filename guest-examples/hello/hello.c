/* hello: the smallest useful command, one `fd_write` and nothing else.
 *
 * Shows: what a run costs when the guest does almost nothing; the benchmarks use it.
 *
 *     lockstep run guest-examples/prebuilt/hello.wasm
 *
 * It is linked without the C library and declares the one function that it imports itself: a few hundred bytes.
 */
#include <stddef.h>
#include <stdint.h>

struct ciovec {
    const char *bytes;
    size_t length;
};

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

WASI(fd_write) uint16_t fd_write(uint32_t fd, const struct ciovec *parts, size_t count, size_t *written);

void _start(void) {
    static const char greeting[] = "hello\n";
    struct ciovec text = {greeting, sizeof greeting - 1};
    size_t written;
    /* A refused or short write must not look like success. */
    if (fd_write(1, &text, 1, &written) != 0 || written != text.length) __builtin_trap();
}
