import { expect, it } from "vitest";
import { isFiltered, isOwnPeriod, localTime, runFilter } from "./run-filter";

it("turns the address into what the API is asked for", () => {
  const now = Date.UTC(2026, 0, 1, 12);
  const filter = runFilter(new URLSearchParams("state=failed&since=1h&text=+abc+"), now);
  expect(filter).toMatchObject({ state: "failed", since: "2026-01-01T11:00:00.000Z", text: "abc", cursor: "", until: null });
  expect(runFilter(new URLSearchParams("since=nonsense"), now).since).toBeNull();
});

it("takes instants as they are written here", () => {
  const at = Date.UTC(2026, 0, 1, 12);
  const query = new URLSearchParams({ since: localTime(at), until: localTime(at + 60_000) });
  expect(runFilter(query, 0)).toMatchObject({ since: "2026-01-01T12:00:00.000Z", until: "2026-01-01T12:01:00.000Z" });
  expect(isOwnPeriod(query)).toBe(true);
  expect(isOwnPeriod(new URLSearchParams("since=1h"))).toBe(false);
});

it("knows whether anything is filtered: a page of the list is no filter", () => {
  expect(isFiltered(new URLSearchParams("cursor=x"))).toBe(false);
  expect(isFiltered(new URLSearchParams("worker=w1"))).toBe(true);
});
