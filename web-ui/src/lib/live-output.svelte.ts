// What attempts write while they write it: a bounded tail for each attempt and stream. Not verified.

import type { LiveOutput, StreamName } from "../api/types";
import { fromBase64 } from "./bytes";

/** More than this is read from the verified output, once it is there. */
const TAIL_CHARS_MAX = 128 * 1024;

export interface Tail {
  attempt: number;
  stream: StreamName;
  text: string;
  isCut: boolean;
}

export class LiveTails {
  list = $state.raw<Tail[]>([]);
  #decoders = new Map<string, TextDecoder>();

  take(output: LiveOutput): void {
    const key = `${output.attempt} ${output.stream}`;
    const decoder = this.#decoders.get(key) ?? new TextDecoder();
    this.#decoders.set(key, decoder);
    const bytes = output.base64 ? fromBase64(output.base64) : new TextEncoder().encode(output.text ?? "");
    const piece = decoder.decode(bytes, { stream: true });
    const known = this.list.find((tail) => tail.attempt === output.attempt && tail.stream === output.stream);
    const all = (known?.text ?? "") + piece;
    const tail = {
      attempt: output.attempt,
      stream: output.stream,
      text: all.slice(-TAIL_CHARS_MAX),
      isCut: (known?.isCut ?? false) || all.length > TAIL_CHARS_MAX,
    };
    this.list = [...this.list.filter((one) => one !== known), tail].sort(
      (a, b) => a.attempt - b.attempt || a.stream.localeCompare(b.stream) * -1,
    );
  }
}
