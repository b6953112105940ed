import { expect, test } from "vitest";
import { EventParser } from "./event-parser";

test("events are whole wherever the stream is cut", () => {
  const text = ': alive\n\nevent: run\ndata: {"a":\ndata: 1}\n\ndata:x\r\n\r\nevent: end\n\ndata: cut';
  const expected = [
    { name: "run", data: '{"a":\n1}' },
    { name: "message", data: "x" },
  ];
  for (let cut = 0; cut <= text.length; cut += 1) {
    const parser = new EventParser();
    expect([...parser.feed(text.slice(0, cut)), ...parser.feed(text.slice(cut))]).toEqual(expected);
  }
});
