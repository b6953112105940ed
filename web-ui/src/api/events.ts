// Server-sent events over fetch: EventSource cannot send the token. When a stream ends or breaks it is opened again
// after a pause, and `caughtUp` is called each time, so that a view that reads anew then misses nothing: with a server
// or proxy that does not stream at all this is plain polling.

import { EventParser, type ServerEvent } from "../lib/event-parser";
import { ApiError, send } from "./client";

export const RETRY_MS = 3_000;

export interface Follower {
  /** Answers false when nothing more is wanted. */
  take: (event: ServerEvent) => boolean;
  /** The stream was interrupted: something may have been missed. */
  caughtUp: () => void;
  /** Whether events come at this moment. */
  open?: (isOpen: boolean) => void;
}

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

/** Reads one stream to its end; whether another one is wanted. */
async function readOnce(path: string, follower: Follower, signal: AbortSignal): Promise<boolean> {
  // A hidden tab lets its stream go: a browser has six connections for all tabs of one server.
  const stream = new AbortController();
  const both = AbortSignal.any([signal, stream.signal]);
  document.addEventListener("visibilitychange", () => document.hidden && stream.abort(), { signal: both });
  try {
    const response = await send(path, { signal: both, headers: { Accept: "text/event-stream" } });
    follower.open?.(true);
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const piece = await reader?.read();
      if (piece === undefined || piece.done) return true;
      for (const event of parser.feed(piece.value)) {
        if (!follower.take(event)) return false;
      }
    }
  } catch (cause) {
    // What is not there will not come; everything else may pass.
    return !(cause instanceof ApiError && (cause.code === "not_found" || cause.code === "unauthorized"));
  } finally {
    follower.open?.(false);
    stream.abort();
  }
}

/** Follows `path` until nothing more is wanted or the returned function is called. */
export function follow(path: string, follower: Follower): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  void (async () => {
    while (!signal.aborted) {
      const goOn = await readOnce(path, follower, signal);
      if (!goOn || signal.aborted) break;
      await pause(RETRY_MS, signal);
      await shown(signal);
      if (!signal.aborted) follower.caughtUp();
    }
  })();
  return () => controller.abort();
}
