// Server-sent events over fetch: EventSource cannot send the token. When the stream ends or breaks it is opened again
// after a pause, and `caughtUp` is called each time, so that a view that reads anew then misses nothing: with a server
// or proxy that does not stream at all this is plain polling.

import { EventParser, type ServerEvent } from "../lib/event-parser";
import { send } from "./client";

const RETRY_MS = 3_000;

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Completes when the tab is shown. */
function shown(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (!document.hidden || signal.aborted) resolve();
    };
    document.addEventListener("visibilitychange", look, { signal });
    signal.addEventListener("abort", look);
    look();
  });
}

/** Follows `path` until `take` answers false or the returned function is called. A hidden tab lets its stream go: a
 * browser has six connections for all tabs of one server. */
export function follow(path: string, take: (event: ServerEvent) => boolean, caughtUp: () => void): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  const once = async (): Promise<boolean> => {
    const stream = new AbortController();
    const both = AbortSignal.any([signal, stream.signal]);
    const look = () => document.hidden && stream.abort();
    document.addEventListener("visibilitychange", look, { signal: both });
    const response = await send(path, { signal: both, headers: { Accept: "text/event-stream" } });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const piece = await reader?.read();
      if (piece === undefined || piece.done) return true;
      for (const event of parser.feed(piece.value)) {
        if (!take(event)) return false;
      }
    }
  };
  void (async () => {
    while (!signal.aborted) {
      const goOn = await once().catch(() => true);
      if (!goOn || signal.aborted) break;
      await pause(RETRY_MS, signal);
      await shown(signal);
      if (!signal.aborted) caughtUp();
    }
    controller.abort();
  })();
  return () => controller.abort();
}

/** Calls `changed` when something of `kind` changed in the pool: a few times a second at most. */
export function onChanges(kind: "run" | "worker" | "module", changed: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const soon = () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      changed();
    }, 300);
  };
  const stop = follow(
    "/v1/events",
    (event) => {
      if (event.name === kind || event.name === "lagged") soon();
      return true;
    },
    soon,
  );
  return () => {
    stop();
    clearTimeout(timer);
  };
}
