import { expect, it } from "vitest";
import { policyName, SETTLED, usualOf } from "./usual";

it("takes the word that is nearest to the run", () => {
  const [high, once, standard] = [{ policy: "high" }, { policy: "once" }, { policy: "standard" }] as const;
  expect(usualOf(high, once, standard)).toEqual({ verify: high, says: "its module" });
  expect(usualOf(null, once, standard)).toEqual({ verify: once, says: "its workspace" });
  expect(usualOf(null, undefined, standard)?.says).toBe("this server");
  expect(usualOf(null, null, null)).toBeNull();
});

it("names policies as the command line does", () => {
  expect(SETTLED.map(({ name, verify }) => policyName(verify) === name)).toEqual(SETTLED.map(() => true));
  expect(policyName(null)).toBe("");
});
