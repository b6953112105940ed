// What guests write is untrusted: escape sequences and characters that could fake something are made visible or dropped.

// CSI … final, OSC … BEL or ST, the other string sequences, and two-character escapes (ECMA-48). One that is not ended is
// left for the next rule, so that it can't swallow what follows.
const ESCAPES =
  /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[PX^_][^\u001b]*\u001b\\|[ -/]*[0-OQ-WYZ\\`-~])|\u009b[0-?]*[ -/]*[@-~]/g;
// Controls but tab and line feed, and the marks that reorder text (a file name could read backwards).
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

function visibleControl(char: string): string {
  const code = char.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
}

/** Text of a guest's output without its terminal escapes; other controls become visible. */
export function plain(text: string): string {
  return text.replace(ESCAPES, "").replace(/\r\n?/g, "\n").replace(CONTROLS, visibleControl);
}

/** A name on one line: every control, line ends included, is visible. */
export function oneLine(text: string): string {
  return text.replace(CONTROLS, visibleControl).replace(/[\t\n]/g, visibleControl);
}
