/* mandelbrot: draws the Mandelbrot set into /out/mandelbrot.png.
 *
 * Shows: floating point that must agree bit for bit between workers, and a file as the result.
 *
 *     lockstep run guest-examples/prebuilt/mandelbrot.wasm --quorum 3 --out ./out -- 640 480 1000
 *
 * Arguments: WIDTH HEIGHT ITERATIONS, by default 640 480 1000.
 *
 * The PNG is written by hand: one byte per pixel and a palette, in `stored` deflate blocks.
 * Formats: PNG (third edition), RFC 1950 (zlib, Adler-32), RFC 1951 3.2.4 (stored blocks).
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define OUTPUT "/out/mandelbrot.png"
/* 8192 x 8192 is 64 MiB of pixels, which fits the default memory limit of a run. */
#define SIDE_MAX 8192
#define ITERATIONS_MAX 1000000
/* The most that one stored block can hold. */
#define STORED_MAX 65535
/* Colour 0 is the set itself, the others go around as often as the escape time needs. */
#define COLOURS 256

static FILE *out;
static uint32_t crc_table[256];
/* CRC-32 of the chunk that is being written, complemented as the algorithm wants it. */
static uint32_t crc;

static void fail(const char *what) {
    fprintf(stderr, "mandelbrot: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void make_crc_table(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        crc_table[n] = c;
    }
}

static void put(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) crc = crc_table[(crc ^ bytes[i]) & 0xFF] ^ (crc >> 8);
    if (fwrite(bytes, 1, length, out) != length) fail(OUTPUT);
}

static void put_u32(uint32_t value) {
    uint8_t big_endian[4] = {value >> 24, value >> 16, value >> 8, value};
    put(big_endian, 4);
}

/* The length stands outside the checksum, the type inside. */
static void begin_chunk(const char *type, uint32_t length) {
    put_u32(length);
    crc = 0xFFFFFFFFu;
    put((const uint8_t *)type, 4);
}

static void end_chunk(void) { put_u32(crc ^ 0xFFFFFFFFu); }

static uint32_t adler32(const uint8_t *bytes, size_t length) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < length; i++) {
        a = (a + bytes[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void write_header(uint32_t width, uint32_t height) {
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    /* Eight bits a pixel, by palette; the only compression, filtering and no interlacing. */
    static const uint8_t format[5] = {8, 3, 0, 0, 0};
    put(signature, sizeof signature);
    begin_chunk("IHDR", 13);
    put_u32(width);
    put_u32(height);
    put(format, sizeof format);
    end_chunk();
}

/* Rises from 0 to 255 over the first half of the circle of colours and falls again over the second. */
static uint8_t wave(int position) {
    int p = position & 255;
    return p < 128 ? 2 * p : 511 - 2 * p;
}

/* Dark blue, gold and white in turn; colour 0, the set, is black. */
static void write_palette(void) {
    begin_chunk("PLTE", COLOURS * 3);
    for (int i = 0; i < COLOURS; i++) {
        int w = wave(4 * i);
        uint8_t rgb[3] = {w * w / 255, w * (255 + w) / 600, 60 + wave(4 * i + 40) * 3 / 5};
        if (i == 0) memset(rgb, 0, 3);
        put(rgb, 3);
    }
    end_chunk();
}

static void write_pixels(const uint8_t *bytes, size_t length) {
    size_t blocks = (length + STORED_MAX - 1) / STORED_MAX;
    begin_chunk("IDAT", 2 + blocks * 5 + length + 4);
    static const uint8_t zlib_header[2] = {0x78, 0x01};
    put(zlib_header, 2);
    for (size_t at = 0; at < length; at += STORED_MAX) {
        size_t n = length - at < STORED_MAX ? length - at : STORED_MAX;
        uint8_t last = at + n == length;
        uint8_t header[5] = {last, n, n >> 8, ~n, ~n >> 8};
        put(header, 5);
        put(bytes + at, n);
    }
    put_u32(adler32(bytes, length));
    end_chunk();
}

/* Steps until the orbit of c leaves the circle of radius 2; 0 if it stays for `iterations` steps. */
static uint32_t escape_time(double cx, double cy, uint32_t iterations) {
    double x = 0, y = 0;
    for (uint32_t step = 1; step <= iterations; step++) {
        double xx = x * x, yy = y * y;
        if (xx + yy > 4) return step;
        y = 2 * x * y + cy;
        x = xx - yy + cx;
    }
    return 0;
}

/* Draws rows of one filter byte (0: none) and `width` colours; answers how many points are in the set. */
static size_t draw(uint8_t *rows, uint32_t width, uint32_t height, uint32_t iterations) {
    /* The whole set is seen whatever the sides: 3 x 2.5 around (-0.75, 0), pixels are squares. */
    double scale = 3.0 / width > 2.5 / height ? 3.0 / width : 2.5 / height;
    size_t inside = 0;
    for (uint32_t row = 0; row < height; row++) {
        *rows++ = 0;
        for (uint32_t column = 0; column < width; column++) {
            double cx = -0.75 + (column + 0.5 - width * 0.5) * scale;
            double cy = (height * 0.5 - row - 0.5) * scale;
            uint32_t steps = escape_time(cx, cy, iterations);
            inside += steps == 0;
            *rows++ = steps == 0 ? 0 : 1 + steps % (COLOURS - 1);
        }
    }
    return inside;
}

static uint32_t argument(int argc, char **argv, int index, uint32_t otherwise, uint32_t max) {
    if (index >= argc) return otherwise;
    char *end;
    unsigned long value = strtoul(argv[index], &end, 10);
    if (*end != '\0' || value < 1 || value > max) {
        fprintf(stderr, "mandelbrot: `%s` is not between 1 and %u\n", argv[index], max);
        fprintf(stderr, "usage: mandelbrot [WIDTH [HEIGHT [ITERATIONS]]]\n");
        exit(2);
    }
    return value;
}

int main(int argc, char **argv) {
    uint32_t width = argument(argc, argv, 1, 640, SIDE_MAX);
    uint32_t height = argument(argc, argv, 2, 480, SIDE_MAX);
    uint32_t iterations = argument(argc, argv, 3, 1000, ITERATIONS_MAX);

    size_t length = (size_t)(width + 1) * height;
    uint8_t *rows = malloc(length);
    if (rows == NULL) fail("no memory for the picture");
    size_t inside = draw(rows, width, height, iterations);

    if (mkdir("/out", 0777) != 0 && errno != EEXIST) fail("/out");
    out = fopen(OUTPUT, "wb");
    if (out == NULL) fail(OUTPUT);
    make_crc_table();
    write_header(width, height);
    write_palette();
    write_pixels(rows, length);
    begin_chunk("IEND", 0);
    end_chunk();
    if (fclose(out) != 0) fail(OUTPUT);
    printf("%s: %u x %u, %u iterations, %zu points in the set\n", OUTPUT, width, height, iterations, inside);
    return 0;
}
