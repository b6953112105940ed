import { describe, expect, it } from "vitest";
import { oneLine, plain } from "./ansi";

describe("plain", () => {
  it("drops terminal escapes of every form", () => {
    expect(plain("\u001b[31mred\u001b[0m \u001b]0;title\u0007x\u001b]8;;http://a\u001b\\link")).toBe("red xlink");
    expect(plain("\u001bPq#0\u001b\\y\u001b(B\u001b=z\u009b2J")).toBe("yz");
  });

  it("keeps text, tabs and lines, and reads carriage returns as line ends", () => {
    expect(plain("a\tb\r\nc\rd\n")).toBe("a\tb\nc\nd\n");
    expect(plain("grüße 🦀")).toBe("grüße 🦀");
  });

  it("shows what could fake something", () => {
    expect(plain("a\u0008b\u0000\u202egnp.exe")).toBe("a␈b␀‹U+202E›gnp.exe");
    expect(plain("half \u001b[12")).toBe("half ␛[12");
  });

  it("leaves markup alone: it is only ever shown as text", () => {
    expect(plain("<script>alert(1)</script>")).toBe("<script>alert(1)</script>");
  });
});

it("puts names on one line", () => {
  expect(oneLine("/out/a\nb\u001b[31m.txt")).toBe("/out/a␊b␛[31m.txt");
});
