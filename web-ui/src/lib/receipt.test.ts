import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { certificateOf, ppb } from "./receipt";

const payloadOf = (statement: object): string => Buffer.from(JSON.stringify(statement)).toString("base64");

it("reads the documented example", () => {
  const { payload } = JSON.parse(readFileSync(new URL("../../../docs/receipt.example.json", import.meta.url), "utf8")) as { payload: string };
  const found = certificateOf(payload);
  expect(found.rule).toEqual({ policy: "quorum", n: 2 });
  expect(found.revision).toBe(1);
  expect(found.weights.size).toBe(0);
});

it("finds what each vote weighed, the losing ones too", () => {
  const predicate = {
    run: "r",
    revision: 2,
    rule: { policy: "standard", epsilon: "0.001" },
    votes: [
      { attempt: 3, credibility: "0.999500001", confirmations_milli: 21_500, fault_domain: 1 },
      { attempt: 5, credibility: "0.999999", confirmations_milli: 0, fault_domain: 2, arbiter: true },
    ],
    dissents: [{ attempt: 4, credibility: "0.95", confirmations_milli: 0, fault_domain: 3 }],
  };
  const { weights } = certificateOf(payloadOf({ predicate }));
  expect(weights.get(3)).toEqual({ errorPpb: 499_999, confirmations: 21.5, faultDomain: 1, isArbiter: false });
  expect(weights.get(5)).toMatchObject({ errorPpb: 1_000, isArbiter: true });
  expect(weights.get(4)?.errorPpb).toBe(50_000_000);
});

it("takes no other text for a fraction", () => {
  expect([ppb("1"), ppb("0.000000001"), ppb("0.5")]).toEqual([1_000_000_000, 1, 500_000_000]);
  expect([ppb("1e-3"), ppb("-0.1"), ppb("0.1234567891"), ppb("")]).toEqual([null, null, null, null]);
});
