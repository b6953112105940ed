// Deliveries of callbacks, in words.

import type { CallbackDelivery } from "../api/types";
import { count } from "./format";
import type { Tone } from "./status";

const EVENTS: Record<CallbackDelivery["event"], string> = { "run.final": "it ended", "run.corrected": "it was corrected" };

/** What is told. */
export function eventWords({ event, revision }: Pick<CallbackDelivery, "event" | "revision">): string {
  return `${EVENTS[event]} (revision ${revision})`;
}

export function deliveryWord({ state }: Pick<CallbackDelivery, "state">): string {
  return state === "given_up" ? "given up" : state;
}

export function deliveryTone({ state, tries }: Pick<CallbackDelivery, "state" | "tries">): Tone {
  switch (state) {
    case "delivered":
      return "good";
    case "given_up":
      return "bad";
    case "pending":
      return tries === 0 ? "busy" : "warn";
  }
}

/** How its last try went. */
export function tryWords({ tries, last_status, last_error }: Pick<CallbackDelivery, "tries" | "last_status" | "last_error">): string {
  if (tries === 0) return "not tried yet";
  const how = last_error ?? (last_status === null ? "no answer" : `answered ${last_status}`);
  return `${count(tries, "try", "tries")}: ${how}`;
}

/** What is wrong with a callback's address, in words; the server checks where it leads. */
export function callbackProblem(text: string): string | null {
  const address = text.trim();
  if (address === "") return null;
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url === null || !["https:", "http:"].includes(url.protocol)) return "The callback must be a URL such as https://ci.example.org/hook.";
  if (url.username !== "" || url.password !== "" || url.hash !== "") return "The callback's URL may hold no user, password or fragment.";
  return null;
}
