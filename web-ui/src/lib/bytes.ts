// Bytes as people look at them: as text, as rows of hex, as a picture. Nothing here trusts what they are.

export type Kind = "png" | "jpeg" | "gif" | "webp" | "svg" | "json" | "text" | "binary";

function starts(bytes: Uint8Array, ...prefix: number[]): boolean {
  return prefix.every((byte, at) => bytes[at] === byte);
}

/** What the bytes look like, by how they begin; a name decides only between kinds of text. */
export function kindOf(head: Uint8Array, path: string): Kind {
  if (starts(head, 0x89, 0x50, 0x4e, 0x47)) return "png";
  if (starts(head, 0xff, 0xd8, 0xff)) return "jpeg";
  if (starts(head, 0x47, 0x49, 0x46, 0x38)) return "gif";
  if (starts(head, 0x52, 0x49, 0x46, 0x46) && starts(head.subarray(8), 0x57, 0x45, 0x42, 0x50)) return "webp";
  const text = decodeWhole(head);
  if (text === null) return "binary";
  if (/\.svg$/i.test(path) && /<svg[\s>]/.test(text)) return "svg";
  return /\.json$/i.test(path) ? "json" : "text";
}

/** Media types under which a picture is handed to `<img>`, which runs no scripts whatever is in it. */
export const PICTURES: Partial<Record<Kind, string>> = {
  png: "image/png",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  svg: "image/svg+xml",
};

/** Number of bytes at the end that are the beginning of a character that goes on. */
function unfinished(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

/** The text of a window of bytes: characters that are cut at its edges are left out. Null where it is no text. */
export function decodeWindow(bytes: Uint8Array): string | null {
  let begin = 0;
  while (begin < Math.min(3, bytes.length) && ((bytes[begin] as number) & 0xc0) === 0x80) begin += 1;
  return decodeWhole(bytes.subarray(begin));
}

function decodeWhole(bytes: Uint8Array): string | null {
  const whole = bytes.subarray(0, bytes.length - unfinished(bytes));
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(whole);
    return text.includes("\u0000") ? null : text;
  } catch {
    return null;
  }
}

export interface HexRow {
  offset: string;
  hex: string[];
  text: string;
}

/** Rows of sixteen bytes; `at` is the position of the first one. */
export function hexRows(bytes: Uint8Array, at: number): HexRow[] {
  const rows: HexRow[] = [];
  for (let begin = 0; begin < bytes.length; begin += 16) {
    const row = bytes.subarray(begin, begin + 16);
    rows.push({
      offset: (at + begin).toString(16).padStart(8, "0"),
      hex: Array.from(row, (byte) => byte.toString(16).padStart(2, "0")),
      text: Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join(""),
    });
  }
  return rows;
}

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

export interface Piece {
  text: string;
  differs: boolean;
}

/** Text cut into runs of characters that equal their counterpart in `other` and runs that don't, by bytes. */
export function pieces(bytes: Uint8Array, other: Uint8Array): Piece[] {
  const found: Piece[] = [];
  let begin = 0;
  const cut = (end: number, differs: boolean) => {
    if (end > begin) found.push({ text: new TextDecoder().decode(bytes.subarray(begin, end)), differs });
    begin = end;
  };
  let differs = false;
  for (let at = 0; at < bytes.length; at += 1) {
    // A character of several bytes is never cut in two.
    if (((bytes[at] as number) & 0xc0) === 0x80) continue;
    let now = false;
    for (let i = at; i === at || ((bytes[i] ?? 0) & 0xc0) === 0x80; i += 1) now ||= bytes[i] !== other[i];
    if (now !== differs) cut(at, differs);
    differs = now;
  }
  cut(bytes.length, differs);
  return calm(found);
}

/** A character or two that happen to be equal in the middle of a difference are noise. */
function calm(found: Piece[]): Piece[] {
  const merged: Piece[] = [];
  for (const [index, piece] of found.entries()) {
    const isNoise = !piece.differs && piece.text.length <= 2 && index > 0 && index + 1 < found.length;
    const differs = piece.differs || isNoise;
    const last = merged.at(-1);
    if (last !== undefined && last.differs === differs) last.text += piece.text;
    else merged.push({ text: piece.text, differs });
  }
  return merged;
}
