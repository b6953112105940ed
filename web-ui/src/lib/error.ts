// How likely something is wrong, in one notation for the whole page: a decimal fraction with two digits that matter, as
// receipts write their bounds. The log has two others, which are put into this one.

const BILLION = 1_000_000_000;

/** A probability in parts per billion: `0.2`, `0.0065`, `0.0001`. More digits are cut off, as in the log. */
export function errorWords(errorPpb: number): string {
  if (errorPpb <= 0) return "0";
  if (errorPpb >= BILLION) return "1";
  const digits = String(Math.floor(errorPpb)).padStart(9, "0");
  const first = digits.search(/[1-9]/);
  return first < 0 ? "0" : `0.${digits.slice(0, first + 2).replace(/0+$/, "")}`;
}

/** The same as odds: `1 in 1,020`. */
export function oddsWords(errorPpb: number): string {
  return errorPpb <= 0 ? "none" : `1 in ${Math.round(BILLION / errorPpb).toLocaleString("en")}`;
}

/** The error of whoever is right with this probability, in parts per billion. */
export function errorOf(credibility: number): number {
  return Math.round((1 - credibility) * BILLION);
}

/** A probability as the log writes it: `9.8e-4`, or `2.50 %` from one percent on. */
const FIGURE = /\b(\d)\.(\d)e-(\d)\b|\b(\d{1,3})\.(\d\d) %/g;

/** A line of the server with its probabilities in the notation of the page; every other word stays. */
export function withErrors(text: string): string {
  return text.replace(FIGURE, (_, whole: string | undefined, tenth: string, power: string, percent: string, hundredths: string) =>
    errorWords(whole === undefined ? Number(percent + hundredths) * 100_000 : Number(whole + tenth) * 10 ** (8 - Number(power))),
  );
}
