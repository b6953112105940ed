import { expect, it } from "vitest";
import { packTree } from "./tree";

const body = (text: string) => new TextEncoder().encode(text);
const sized = (text: string) => ({ size: body(text).length, text });

it("packs a folder in the canonical order: names by their bytes, a folder before what is in it", () => {
  const { head, bodies } = packTree([
    { path: "b.txt", body: sized("bb") },
    { path: "a/z", body: sized("z") },
    { path: "a/y", body: sized("yyy") },
    { path: "B", body: sized("") },
  ]);
  const hex = Array.from(head, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const text = (value: string) => Array.from(body(value), (byte) => byte.toString(16).padStart(2, "0")).join("");
  expect(hex).toBe(
    [
      text("LSTREE1\n"),
      "05000000",
      `0001${text("B")}0000000000000000`,
      `0101${text("a")}02000000`,
      `0001${text("y")}0300000000000000`,
      `0001${text("z")}0100000000000000`,
      `0005${text("b.txt")}0200000000000000`,
    ].join(""),
  );
  expect(bodies.map((one) => one.text)).toEqual(["", "yyy", "z", "bb"]);
});

it("refuses names that no guest can have", () => {
  for (const path of ["../a", "a//b", "./a", `a/${"x".repeat(256)}`]) {
    expect(() => packTree([{ path, body: sized("") }])).toThrow(RangeError);
  }
});
