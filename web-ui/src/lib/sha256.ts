// SHA-256 (FIPS 180-4) piece by piece. The browser's own digest takes only whole buffers, reports no progress, and does
// not exist on a page that came over plain HTTP from another machine.

/** The first `count` primes, whose roots the standard takes its constants from. */
function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n += 1) {
    if (found.every((prime) => n % prime !== 0)) found.push(n);
  }
  return found;
}

/** The first 32 bits of the fractional part of the root of each prime. */
function fractions(count: number, root: (n: number) => number): number[] {
  return primes(count).map((prime) => Math.floor((root(prime) % 1) * 2 ** 32) | 0);
}

const ROUND = new Int32Array(fractions(64, Math.cbrt));
const START = fractions(8, Math.sqrt);

function rotate(word: number, by: number): number {
  return (word >>> by) | (word << (32 - by));
}

export class Sha256 {
  #state = new Int32Array(START);
  #words = new Int32Array(64);
  #block = new Uint8Array(64);
  #filled = 0;
  #size = 0;

  update(bytes: Uint8Array): void {
    this.#size += bytes.length;
    let at = 0;
    while (at < bytes.length) {
      const taken = Math.min(64 - this.#filled, bytes.length - at);
      this.#block.set(bytes.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled === 64) {
        this.#compress();
        this.#filled = 0;
      }
    }
  }

  /** The digest as the API writes it. */
  digest(): string {
    const bits = this.#size * 8;
    const zeros = (119 - (this.#size % 64)) % 64;
    const tail = new Uint8Array(1 + zeros + 8);
    tail[0] = 0x80;
    const view = new DataView(tail.buffer);
    view.setUint32(1 + zeros, Math.floor(bits / 2 ** 32));
    view.setUint32(5 + zeros, bits % 2 ** 32);
    this.update(tail);
    const hex = Array.from(this.#state, (word) => (word >>> 0).toString(16).padStart(8, "0"));
    return `sha256:${hex.join("")}`;
  }

  #compress(): void {
    const words = this.#words;
    const view = new DataView(this.#block.buffer);
    for (let i = 0; i < 16; i += 1) words[i] = view.getInt32(i * 4);
    for (let i = 16; i < 64; i += 1) {
      const w15 = words[i - 15] as number;
      const w2 = words[i - 2] as number;
      const small0 = rotate(w15, 7) ^ rotate(w15, 18) ^ (w15 >>> 3);
      const small1 = rotate(w2, 17) ^ rotate(w2, 19) ^ (w2 >>> 10);
      words[i] = ((words[i - 16] as number) + small0 + (words[i - 7] as number) + small1) | 0;
    }
    const state = this.#state;
    const at = (i: number): number => state[i] as number;
    let [a, b, c, d] = [at(0), at(1), at(2), at(3)];
    let [e, f, g, h] = [at(4), at(5), at(6), at(7)];
    for (let i = 0; i < 64; i += 1) {
      const big1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const chosen = (e & f) ^ (~e & g);
      const t1 = (h + big1 + chosen + (ROUND[i] as number) + (words[i] as number)) | 0;
      const big0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const majority = (a & b) ^ (a & c) ^ (b & c);
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + big0 + majority) | 0;
    }
    // An Int32Array wraps what is written to it, which is the addition that the standard asks for.
    state.set([at(0) + a, at(1) + b, at(2) + c, at(3) + d, at(4) + e, at(5) + f, at(6) + g, at(7) + h]);
  }
}

/** Hashes a file without holding it, and reports how much has been read. */
export async function hashFile(file: Blob, read: (bytes: number) => void): Promise<string> {
  const hasher = new Sha256();
  const reader = file.stream().getReader();
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return hasher.digest();
    hasher.update(value);
    size += value.length;
    read(size);
  }
}
