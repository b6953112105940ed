import { expect, it } from "vitest";
import { enrolmentOf, enrolmentProblem, enrolmentWords, WHOSE } from "./enrolment";

it("says whose machines they are, as the API wants to hear it", () => {
  expect(enrolmentOf("own", "")).toEqual({ owned: true });
  // a rack of one's own counts as one
  expect(enrolmentOf("own", " rack-2 ")).toEqual({ owned: true, domain: "rack-2" });
  expect(enrolmentOf("foreign", "ada")).toEqual({ foreign: true, domain: "ada" });
  // what was typed for another choice is not sent
  expect(enrolmentOf("arbiter", "ada")).toEqual({ arbiter: true });
});

it("wants a domain for strangers, and another one than the operator's", () => {
  expect(enrolmentProblem("foreign", " ")).toContain("Name the domain");
  expect(enrolmentProblem("foreign", "local")).toContain("your own machines");
  expect([enrolmentProblem("foreign", "ada"), enrolmentProblem("own", ""), enrolmentProblem("arbiter", "")]).toEqual([null, null, null]);
});

it("offers one's own machines first, and says of each choice what it means", () => {
  expect(WHOSE.map(({ name }) => name)).toEqual(["own", "foreign", "arbiter"]);
  expect(WHOSE.every(({ meaning }) => meaning.length > 40)).toBe(true);
});

it("tells of a token whom it lets in", () => {
  const words = (change: object) => enrolmentWords({ scopes: ["worker"], owned: false, arbiter: false, domain: null, ...change });
  expect(words({ owned: true, domain: "local" })).toBe("own machines");
  expect(words({ owned: true, domain: "rack-2" })).toBe("own machines, domain rack-2");
  expect(words({ domain: "ada" })).toBe("somebody else's machines, domain ada");
  expect(words({ owned: true, arbiter: true, domain: "local" })).toBe("an arbiter");
  expect(words({ scopes: ["read"] })).toBeNull();
});
