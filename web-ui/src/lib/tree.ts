// Packs a folder into one blob, in the canonical form of the server's `src/tree.rs`: equal folders, equal digests.

export interface TreeFile<T extends { size: number }> {
  /** From the folder, without a leading slash: `a/b.txt`. */
  path: string;
  body: T;
}

const MAGIC = new TextEncoder().encode("LSTREE1\n");
const ENTRIES_MAX = 1 << 20;

class Folder<T extends { size: number }> {
  readonly files = new Map<string, T>();
  readonly folders = new Map<string, Folder<T>>();

  /** Its entries and theirs, sorted by the bytes of their names. */
  sorted(): [Uint8Array, T | Folder<T>][] {
    const encoder = new TextEncoder();
    const all = [...this.files, ...this.folders].map(([name, node]): [Uint8Array, T | Folder<T>] => [encoder.encode(name), node]);
    return all.sort(([a], [b]) => compare(a, b));
  }

  count(): number {
    let count = this.files.size;
    for (const folder of this.folders.values()) count += 1 + folder.count();
    return count;
  }
}

function compare(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    if (a[at] !== b[at]) return (a[at] as number) - (b[at] as number);
  }
  return a.length - b.length;
}

function number(value: number, bytes: 4 | 8): Uint8Array {
  const view = new DataView(new ArrayBuffer(bytes));
  if (bytes === 4) view.setUint32(0, value, true);
  else view.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(view.buffer);
}

/** The table of the packed folder, and the contents in the order in which they follow it. */
export function packTree<T extends { size: number }>(files: TreeFile<T>[]): { head: Uint8Array; bodies: T[] } {
  const root = new Folder<T>();
  for (const { path, body } of files) {
    const names = path.split("/");
    const last = names.pop() ?? "";
    let folder = root;
    for (const name of names) {
      check(name);
      const next = folder.folders.get(name) ?? new Folder<T>();
      folder.folders.set(name, next);
      folder = next;
    }
    check(last);
    folder.files.set(last, body);
  }
  const count = root.count();
  if (count > ENTRIES_MAX) throw new RangeError(`a folder holds at most ${ENTRIES_MAX} files and folders`);
  const parts: Uint8Array[] = [MAGIC, number(count, 4)];
  const bodies: T[] = [];
  const write = (folder: Folder<T>) => {
    for (const [name, node] of folder.sorted()) {
      const isFolder = node instanceof Folder;
      parts.push(Uint8Array.of(isFolder ? 1 : 0, name.length), name);
      if (isFolder) {
        parts.push(number(node.count(), 4));
        write(node);
      } else {
        parts.push(number(node.size, 8));
        bodies.push(node);
      }
    }
  };
  write(root);
  return { head: concatenate(parts), bodies };
}

function check(name: string): void {
  const length = new TextEncoder().encode(name).length;
  if (length === 0 || length > 255 || name === "." || name === ".." || name.includes("\u0000")) {
    throw new RangeError(`“${name}” cannot be the name of a file in a run`);
  }
}

function concatenate(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
