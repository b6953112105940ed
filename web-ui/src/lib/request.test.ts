import { expect, it } from "vitest";
import type { Run } from "../api/types";
import { callables, EMPTY_DIGEST, emptyForm, formOf, formProblems, requestOf } from "./request";

const run = {
  module: "sha256:ab",
  spec: {
    entry: "_start",
    args: ["-n", "two words", 'a"b'],
    env: { LANG: "C" },
    stdin: "sha256:cd",
    files: {},
    profile: "det-1",
    clock: "2026-01-01T00:00:00Z",
    seed: 7,
    limits: { memory_bytes: 2 ** 28, output_bytes: 2 ** 24, file_bytes: 2 ** 26, file_count: 4096, fuel: null },
  },
  policy: {
    verify: { policy: "quorum", n: 3 },
    retry: "reassign",
    attempts_max: 3,
    placement: { mode: "labels", labels: { zone: "a" } },
    timeout_ms: 1_500,
    deadline_ms: null,
    priority: 0,
    durable: true,
  },
} as unknown as Run;

it("asks for nothing that was not filled in", () => {
  const form = { ...emptyForm(), module: "sha256:ab", live: false };
  expect(requestOf(form, {})).toEqual({ module: "sha256:ab" });
});

it("asks for a policy, profile, use of the cache and callback that were chosen", () => {
  const form = { ...emptyForm(), module: "sha256:ab", live: false, verify: "high" as const, profile: "det-1-portable" as const, cache: "refresh" as const, callback: " https://ci.example.org/hook " };
  expect(requestOf(form, {})).toEqual({
    module: "sha256:ab",
    verify: { policy: "high" },
    profile: "det-1-portable",
    cache: "refresh",
    callback: { url: "https://ci.example.org/hook" },
  });
  const again = formOf({
    ...run,
    spec: { ...run.spec, profile: "det-1-portable" },
    policy: { ...run.policy, cache: "off", callback: { url: "https://ci.example.org/hook" } },
  });
  expect([again.profile, again.cache, again.callback]).toEqual(["det-1-portable", "off", "https://ci.example.org/hook"]);
  expect(formProblems({ ...emptyForm(), callback: "nowhere" })).toHaveLength(1);
});

it("submits an earlier run again as it was", () => {
  const request = requestOf({ ...formOf(run), live: false }, {});
  expect(request).toEqual({
    module: "sha256:ab",
    args: ["-n", "two words", 'a"b'],
    env: { LANG: "C" },
    stdin: { digest: "sha256:cd" },
    seed: 7,
    limits: { memory_bytes: 2 ** 28, output_bytes: 2 ** 24, file_bytes: 2 ** 26 },
    verify: { policy: "quorum", n: 3 },
    placement: { mode: "labels", labels: { zone: "a" } },
    timeout_ms: 1_500,
  });
  expect(requestOf(formOf(run, run.spec.limits), {}).limits).toBeUndefined();
  const empty = formOf({ ...run, spec: { ...run.spec, stdin: EMPTY_DIGEST } });
  expect(requestOf(empty, {}).stdin).toBeUndefined();
});

it("gives a function its numbers", () => {
  const form = { ...emptyForm(), module: "sha256:ab", entry: "add", values: ["2", " 40 "] };
  expect(requestOf(form, {}).args).toEqual(["2", "40"]);
});

it("says what is wrong", () => {
  expect(formProblems(emptyForm())).toEqual([]);
  expect(formProblems({ ...emptyForm(), env: "x", seed: "y" })).toEqual([
    "Each line of the environment must be NAME=VALUE.",
    "The seed must be a number.",
  ]);
});

it("offers the functions that take plain numbers", () => {
  const exports = [
    { name: "_start", signature: "", function: { params: [], results: [] } },
    { name: "add", signature: "(i32, i32) -> (i32)", function: { params: ["i32", "i32"], results: ["i32"] } },
    { name: "box", signature: "(externref) -> ()", function: { params: ["externref"], results: [] } },
    { name: "memory", signature: "memory", function: null },
  ];
  const module = { analysis: { exports } } as unknown as Parameters<typeof callables>[0];
  expect(callables(module).map((one) => one.name)).toEqual(["add"]);
});
