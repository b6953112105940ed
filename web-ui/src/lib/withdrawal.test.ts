import { expect, it } from "vitest";
import { withdrawalOf } from "./withdrawal";

it("names exactly what is withdrawn", () => {
  expect(withdrawalOf("all", "")).toEqual({ all: true });
  expect(withdrawalOf("worker", " w2 ")).toEqual({ worker: "w2" });
  expect(withdrawalOf("after", "2026-01-01T00:00:00Z")).toEqual({ after: "2026-01-01T00:00:00.000Z" });
});

it("never becomes everything because a field was left empty", () => {
  for (const kind of ["module", "worker", "class", "run", "after"] as const) expect(withdrawalOf(kind, "  ")).toBeNull();
  expect(withdrawalOf("after", "yesterday")).toBeNull();
});
