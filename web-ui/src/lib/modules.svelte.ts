// The modules by their digest, read once for the whole console: lists show names instead of digests.

import { allModules } from "../api/client";
import { live } from "../api/live.svelte";
import type { Module } from "../api/types";
import { shortDigest } from "./format";
import { Resource } from "./resource.svelte";

class KnownModules {
  readonly resource = new Resource(allModules);
  readonly #byDigest = $derived(new Map(this.resource.data?.items.map((module) => [module.digest, module])));

  /** Reads them, and again whenever one changes, until the returned function is called. */
  start(): () => void {
    void this.resource.refresh();
    return live.on(["module"], () => void this.resource.refresh());
  }

  get(digest: string): Module | null {
    return this.#byDigest.get(digest) ?? null;
  }

  name(digest: string): string {
    return this.get(digest)?.name ?? shortDigest(digest);
  }
}

export const knownModules = new KnownModules();
