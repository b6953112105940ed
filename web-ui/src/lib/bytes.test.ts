import { describe, expect, it } from "vitest";
import { decodeWindow, fromBase64, hexRows, kindOf, pieces } from "./bytes";

const utf8 = (text: string) => new TextEncoder().encode(text);

describe("kindOf", () => {
  it("goes by the bytes, not by the name", () => {
    expect(kindOf(Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d), "/out/a.txt")).toBe("png");
    expect(kindOf(utf8("hello"), "/out/a.png")).toBe("text");
    expect(kindOf(Uint8Array.of(0, 1, 2), "/out/a.txt")).toBe("binary");
  });

  it("lets the name decide between kinds of text", () => {
    expect(kindOf(utf8('{"a":1}'), "/out/a.json")).toBe("json");
    expect(kindOf(utf8('{"a":1}'), "/out/a")).toBe("text");
    expect(kindOf(utf8('<?xml version="1.0"?><svg xmlns="x"/>'), "/out/a.SVG")).toBe("svg");
    expect(kindOf(utf8("<html><script>"), "/out/a.svg")).toBe("text");
  });
});

describe("decodeWindow", () => {
  it("leaves out characters that the window cuts", () => {
    const all = utf8("äöü🦀");
    expect(decodeWindow(all.subarray(1, 8))).toBe("öü");
    expect(decodeWindow(all)).toBe("äöü🦀");
  });

  it("answers null for what is no text", () => {
    expect(decodeWindow(Uint8Array.of(0x61, 0xff, 0x61))).toBeNull();
    expect(decodeWindow(Uint8Array.of(0x61, 0x00))).toBeNull();
  });
});

it("shows rows of hex from their place in the whole", () => {
  const rows = hexRows(utf8("0123456789abcdef\n"), 32);
  expect(rows.map((row) => row.offset)).toEqual(["00000020", "00000030"]);
  expect(rows[1]).toEqual({ offset: "00000030", hex: ["0a"], text: "·" });
});

it("reads base64", () => {
  expect(Array.from(fromBase64("/w=="))).toEqual([0xff]);
});

describe("pieces", () => {
  it("marks what differs", () => {
    expect(pieces(utf8("sum 42\n"), utf8("sum 43\n"))).toEqual([
      { text: "sum 4", differs: false },
      { text: "2", differs: true },
      { text: "\n", differs: false },
    ]);
  });

  it("never cuts a character", () => {
    expect(pieces(utf8("aä"), utf8("aö"))).toEqual([
      { text: "a", differs: false },
      { text: "ä", differs: true },
    ]);
  });

  it("takes equal characters in the middle of a difference as part of it", () => {
    expect(pieces(utf8("pi is 3"), utf8("a lie 3"))).toEqual([
      { text: "pi is", differs: true },
      { text: " 3", differs: false },
    ]);
  });

  it("counts what the other lacks as different", () => {
    expect(pieces(utf8("ab"), utf8("a"))).toEqual([
      { text: "a", differs: false },
      { text: "b", differs: true },
    ]);
  });
});
