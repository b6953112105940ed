import { expect, it } from "vitest";
import { callbackProblem, deliveryTone, eventWords, tryWords } from "./callback";

it("says how a delivery went", () => {
  expect(tryWords({ tries: 0, last_status: null, last_error: null })).toBe("not tried yet");
  expect(tryWords({ tries: 1, last_status: 200, last_error: null })).toBe("1 try: answered 200");
  expect(tryWords({ tries: 3, last_status: null, last_error: "connection refused" })).toBe("3 tries: connection refused");
  expect(eventWords({ event: "run.corrected", revision: 2 })).toBe("it was corrected (revision 2)");
});

it("tells one that waits from one that failed before", () => {
  expect(deliveryTone({ state: "pending", tries: 0 })).toBe("busy");
  expect(deliveryTone({ state: "pending", tries: 2 })).toBe("warn");
  expect(deliveryTone({ state: "given_up", tries: 50 })).toBe("bad");
});

it("takes addresses that the server could call", () => {
  expect(callbackProblem("")).toBeNull();
  expect(callbackProblem(" https://ci.example.org/hook?x=1 ")).toBeNull();
  expect(callbackProblem("ci.example.org")).toContain("must be a URL");
  expect(callbackProblem("ftp://ci.example.org")).toContain("must be a URL");
  expect(callbackProblem("https://me:secret@ci.example.org")).toContain("no user");
});
