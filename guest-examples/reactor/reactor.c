/* reactor: a library rather than a program. It exports functions, and `_initialize` for its set-up.
 *
 * Shows: a WASI reactor called by name. `_initialize` runs before the function, as the constructor proves,
 * and every run starts from a fresh instance, so `next` answers 1 however often it is run.
 *
 *     lockstep run guest-examples/prebuilt/reactor.wasm --entry add 2 40
 *     lockstep run guest-examples/prebuilt/reactor.wasm --entry initialized
 *     lockstep run guest-examples/prebuilt/reactor.wasm --entry next
 */
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))

static int32_t constructors_run = 0;
static int32_t calls = 0;

__attribute__((constructor)) static void set_up(void) { constructors_run += 1; }

/* The sum, wrapping around as wasm's `i32.add` does. */
EXPORT(add) int32_t add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

/* How often the constructor ran: 1 where the host called `_initialize`. */
EXPORT(initialized) int32_t initialized(void) { return constructors_run; }

/* How often this instance was asked, counting this time. */
EXPORT(next) int32_t next(void) { return ++calls; }
