// Input files and folders of a run that is being filled in. Each is uploaded at once, by its digest.

import type { InputFile } from "../api/types";
import type { Picked } from "./drop";
import { topLevel } from "./drop";
import { packTree } from "./tree";
import { startAll, Upload } from "./uploads.svelte";

export class Input {
  /** Where the guest finds it. */
  path = $state("");

  constructor(
    path: string,
    readonly isFolder: boolean,
    /** Name on this machine, for the command to copy; null for what an earlier run had. */
    readonly local: string | null,
    readonly size: number | null,
    readonly upload: Upload | null,
    readonly earlier: InputFile | null,
  ) {
    this.path = path;
  }

  /** How a request names it; null while it is on its way. */
  get input(): InputFile | null {
    if (this.upload === null) return this.earlier;
    const { digest } = this.upload;
    if (!this.upload.isThere || digest === null) return null;
    return this.isFolder ? { tree: digest } : { digest };
  }
}

function fromFolder(name: string, files: Picked[]): Input {
  const { head, bodies } = packTree(files.map(({ path, file }) => ({ path, body: file })));
  const blob = new Blob([head as BlobPart, ...bodies]);
  return new Input(`/${name}`, true, `./${name}`, blob.size, new Upload("blobs", name, blob), null);
}

/** The picked files and folders as inputs, already on their way. */
export function bringUp(picked: Picked[]): Input[] {
  const inputs = topLevel(picked).map(({ name, files, isFolder }) => {
    const first = files[0]?.file;
    if (isFolder || first === undefined) return fromFolder(name, files);
    return new Input(`/${name}`, false, `./${name}`, first.size, new Upload("blobs", name, first), null);
  });
  void startAll(inputs.flatMap((input) => input.upload ?? []), () => undefined);
  return inputs;
}

export function ofEarlierRun(files: Record<string, InputFile>): Input[] {
  return Object.entries(files).map(([path, input]) => new Input(path, "tree" in input, null, null, null, input));
}
