// One stream of changes for the whole console, and whoever wants to hear of them.

import { follow } from "./events";

export type ChangeKind = "run" | "worker" | "module";

/** Views read anew at most this often, however much changes. */
const PACE_MS = 400;

interface Listener {
  kinds: ChangeKind[];
  soon: () => void;
}

class Live {
  /** Whether changes are told as they happen; otherwise views are read again every few seconds. */
  isOpen = $state(false);
  #listeners = new Set<Listener>();

  /** Follows the pool until the returned function is called. */
  start(): () => void {
    const tell = (kind: string | null) => {
      for (const listener of this.#listeners) {
        if (kind === null || (listener.kinds as string[]).includes(kind)) listener.soon();
      }
    };
    return follow("/v1/events", {
      take: (event) => {
        tell(event.name === "resync" ? null : event.name);
        return true;
      },
      caughtUp: () => tell(null),
      open: (isOpen) => (this.isOpen = isOpen),
    });
  }

  /** Calls `changed` when something of these kinds changed, a few times a second at most, and at once the first time. */
  on(kinds: ChangeKind[], changed: () => void): () => void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last = 0;
    const soon = () => {
      timer ??= setTimeout(
        () => {
          timer = undefined;
          last = performance.now();
          changed();
        },
        Math.max(20, last + PACE_MS - performance.now()),
      );
    };
    const listener = { kinds, soon };
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      clearTimeout(timer);
    };
  }
}

export const live = new Live();
