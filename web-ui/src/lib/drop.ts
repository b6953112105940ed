// Files and folders that were dropped or picked.

export interface Picked {
  /** Path from what was picked: `photos/a.png`; a single file has no slash. */
  path: string;
  file: File;
}

/** Bounds what one drop can bring. */
const FILES_MAX = 20_000;

export function fromInput(input: HTMLInputElement): Picked[] {
  return Array.from(input.files ?? [], (file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** Everything below what was dropped. The entries have to be taken from the event at once, before anything is awaited. */
export async function fromDrop(transfer: DataTransfer): Promise<Picked[]> {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.() ?? null);
  const plain = Array.from(transfer.files, (file) => ({ path: file.name, file }));
  if (!entries.some((entry) => entry?.isDirectory)) return plain;
  const found: Picked[] = [];
  for (const entry of entries) if (entry !== null) await walk(entry, entry.name, found);
  return found;
}

async function walk(entry: FileSystemEntry, path: string, found: Picked[]): Promise<void> {
  if (found.length >= FILES_MAX) throw new RangeError(`a folder with more than ${FILES_MAX} files is too much for a browser`);
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.push({ path, file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A reader answers with some of the entries at a time, and with none at the end.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const one of some) await walk(one, `${path}/${one.name}`, found);
  }
}

/** The picked files, with each folder at the top as one. */
export function topLevel(picked: Picked[]): { name: string; files: Picked[]; isFolder: boolean }[] {
  const tops = new Map<string, { name: string; files: Picked[]; isFolder: boolean }>();
  for (const one of picked) {
    const slash = one.path.indexOf("/");
    const name = slash < 0 ? one.path : one.path.slice(0, slash);
    const key = `${slash < 0 ? "file" : "folder"} ${name}`;
    const top = tops.get(key) ?? { name, files: [], isFolder: slash >= 0 };
    top.files.push(slash < 0 ? one : { ...one, path: one.path.slice(slash + 1) });
    tops.set(key, top);
  }
  return [...tops.values()];
}
