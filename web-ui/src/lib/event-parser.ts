// Server-sent events (WHATWG HTML, section 9.2), as far as the API uses them.

export interface ServerEvent {
  name: string;
  data: string;
}

/** Takes a stream of text apart into events; feed it any pieces. */
export class EventParser {
  #line = "";
  #name = "";
  #data: string[] = [];

  feed(piece: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const lines = (this.#line + piece).split("\n");
    this.#line = lines.pop() ?? "";
    for (const raw of lines) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line === "") {
        if (this.#data.length > 0) events.push({ name: this.#name || "message", data: this.#data.join("\n") });
        this.#name = "";
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") this.#name = value;
      else if (field === "data") this.#data.push(value);
    }
    return events;
  }
}
