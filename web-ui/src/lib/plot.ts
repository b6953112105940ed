// Small plots: one bar a minute, drawn as a path in a box of `count` by 1.

/** Heights as shares of the largest, so that a single event is still seen. */
export function heights(values: number[]): number[] {
  const top = Math.max(...values, 0);
  return values.map((value) => (top === 0 ? 0 : value === 0 ? 0 : Math.max(0.08, value / top)));
}

/** Two series on top of each other: where the parts of each bar end, as shares of the tallest bar. */
export function stacks(lower: number[], upper: number[]): { lower: number; whole: number }[] {
  const sums = lower.map((value, index) => value + (upper[index] ?? 0));
  return heights(sums).map((whole, index) => ({ lower: whole * ((lower[index] ?? 0) / Math.max(sums[index] ?? 0, 1)), whole }));
}

/** What a plot says, for those who can't see it. */
export function plotWords(name: string, values: number[], minutes: number): string {
  const sum = values.reduce((total, value) => total + value, 0);
  if (sum === 0) return `${name}: none in the last ${minutes} minutes`;
  return `${name}: ${sum} in the last ${minutes} minutes, at most ${Math.max(...values)} in one minute`;
}

/** The share as a percentage that never says 100 % of what is not all, nor 0 % of what is something. */
export function percent(part: number, whole: number): string {
  if (whole === 0) return "–";
  if (part === whole) return "100 %";
  if (part === 0) return "0 %";
  return `${Math.min(99.9, Math.max(0.1, (part / whole) * 100)).toFixed(1)} %`;
}
