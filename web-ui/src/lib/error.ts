// How likely something is wrong, in one notation for the whole page and the log: a decimal fraction with two digits that
// matter, as receipts write their bounds. Logs of before had two others, which are put into this one.

const BILLION = 1_000_000_000;

/** A probability in parts per billion: `0.2`, `0.0065`, `0.0001`. It is rounded up, as in the log: an error is never less than what is said. */
export function errorWords(errorPpb: number): string {
  if (errorPpb <= 0) return "0";
  const whole = Math.ceil(errorPpb);
  const step = 10 ** Math.max(0, String(whole).length - 2);
  const rounded = Math.ceil(whole / step) * step;
  if (rounded >= BILLION) return "1";
  return `0.${String(rounded).padStart(9, "0").replace(/0+$/, "")}`;
}

/** The same as odds: `1 in 1,020`. */
export function oddsWords(errorPpb: number): string {
  return errorPpb <= 0 ? "none" : `1 in ${Math.round(BILLION / errorPpb).toLocaleString("en")}`;
}

/** The error of whoever is right with this probability, in parts per billion. */
export function errorOf(credibility: number): number {
  return Math.round((1 - credibility) * BILLION);
}

/** A probability as older logs write it: `9.8e-4`, or `2.50 %` from one percent on. */
const FIGURE = /\b(\d)\.(\d)e-(\d)\b|\b(\d{1,3})\.(\d\d) %/g;

/** A line of the server with its probabilities in the notation of the page; every other word stays. */
export function withErrors(text: string): string {
  return text.replace(FIGURE, (_, whole: string | undefined, tenth: string, power: string, percent: string, hundredths: string) =>
    errorWords(whole === undefined ? Number(percent + hundredths) * 100_000 : Number(whole + tenth) * 10 ** (8 - Number(power))),
  );
}
