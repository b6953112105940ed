// What an operator does with a worker, each after a question.

import { api, asApiError } from "../api/client";
import type { Worker } from "../api/types";
import { notices, questions } from "./notices.svelte";

async function act(what: () => Promise<Worker>, done: string): Promise<void> {
  try {
    await what();
    notices.say(done);
  } catch (cause) {
    notices.say(asApiError(cause).message, "bad");
  }
}

export async function drain(worker: string): Promise<void> {
  const text = "It finishes what it holds and gets nothing new. No attempt counts as failed.";
  const answer = await questions.ask({ title: `Drain ${worker}?`, text, act: "Drain it" });
  if (answer !== null) await act(() => api.drainWorker(worker), `${worker} drains.`);
}

export async function quarantine(worker: string): Promise<void> {
  const why = await questions.ask({
    title: `Quarantine ${worker}?`,
    text: "It gets no work and its votes do not count until somebody readmits it.",
    act: "Quarantine it",
    danger: true,
    reason: "Why? It is shown wherever the quarantine is.",
  });
  if (why !== null) await act(() => api.quarantineWorker(worker, why), `${worker} is quarantined.`);
}

export async function readmit(worker: string): Promise<void> {
  const text = "It gets work again, and its votes count from now on.";
  const answer = await questions.ask({ title: `Readmit ${worker}?`, text, act: "Readmit it" });
  if (answer !== null) await act(() => api.readmitWorker(worker), `${worker} works again.`);
}
