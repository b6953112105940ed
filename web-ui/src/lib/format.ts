// Figures for people.

/** `512 B`, `1.5 MiB`. */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${count} B` : `${value.toFixed(1)} ${units[unit]}`;
}

/** `0.4 ms`, `830 ms`, `12.4 s`, `3 min 20 s`. */
export function duration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1_000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** A long period in its largest unit: `30 days`, `6 hours`, `90 seconds`. */
export function longPeriod(ms: number): string {
  for (const [unit, size] of [["day", 86_400_000], ["hour", 3_600_000], ["minute", 60_000]] as const) {
    if (ms >= size && ms % size === 0) return count(ms / size, unit);
  }
  for (const [unit, size] of [["day", 86_400_000], ["hour", 3_600_000], ["minute", 60_000]] as const) {
    if (ms >= 2 * size) return count(Math.floor(ms / size), unit);
  }
  return count(Math.round(ms / 1_000), "second");
}

/** Milliseconds between two times of the API, to the microsecond (Date drops what is below a millisecond). */
export function elapsed(from: string, to: string): number {
  const micros = (time: string) => {
    const fraction = /\.(\d+)/.exec(time)?.[1] ?? "";
    const whole = Date.parse(time.replace(/\.\d+/, ""));
    return whole * 1_000 + Number(fraction.padEnd(6, "0").slice(0, 6));
  };
  return (micros(to) - micros(from)) / 1_000;
}

/** `now`, `12 s ago`, `5 min ago`, `3 h ago`, `2 d ago`; `in 5 min` for what is to come. */
export function ago(time: string, now: number): string {
  const seconds = Math.floor((now - Date.parse(time)) / 1_000);
  // Clocks of two machines differ a little: that is no future.
  if (seconds >= -5 && seconds < 2) return "now";
  const words = period(Math.abs(seconds));
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

function period(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** The time as people here write it, with seconds and zone. */
export function absolute(time: string): string {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
}

/** The day of a time of the API, where the time itself says no more than that. */
export function day(time: string): string {
  return new Date(time).toLocaleDateString(undefined, { dateStyle: "medium", timeZone: "UTC" });
}

/** `1 run`, `2 runs`. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** The first eight digits, without `sha256:`. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, "").slice(0, 8);
}

/** The end of a run's id: its beginning is the time, which neighbours share. */
export function shortId(id: string): string {
  return id.slice(-12);
}

/** Splits a line of arguments at spaces; quotes keep them together, a backslash takes the next character as it is. */
export function splitArguments(line: string): string[] {
  const found: string[] = [];
  let current: string | null = null;
  let quote: string | null = null;
  for (let at = 0; at < line.length; at += 1) {
    const char = line.charAt(at);
    if (char === "\\" && quote !== "'" && at + 1 < line.length) {
      at += 1;
      current = (current ?? "") + line.charAt(at);
    } else if (quote !== null) {
      if (char === quote) quote = null;
      else current = (current ?? "") + char;
    } else if (char === '"' || char === "'") {
      quote = char;
      current ??= "";
    } else if (/\s/.test(char)) {
      if (current !== null) found.push(current);
      current = null;
    } else {
      current = (current ?? "") + char;
    }
  }
  if (current !== null) found.push(current);
  return found;
}

/** `NAME=VALUE` lines as an environment; null where a line is none. */
export function parseEnvironment(text: string): Record<string, string> | null {
  const found: Record<string, string> = {};
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const at = line.indexOf("=");
    if (at <= 0) return null;
    found[line.slice(0, at).trim()] = line.slice(at + 1);
  }
  return found;
}

/** Arguments as one line that `splitArguments` takes apart again. */
export function joinArguments(args: string[]): string {
  const word = (arg: string) => (arg !== "" && !/[\s"'\\]/.test(arg) ? arg : `"${arg.replace(/["\\]/g, "\\$&")}"`);
  return args.map(word).join(" ");
}
