import { expect, it } from "vitest";
import { topLevel } from "./drop";

it("takes folders at the top as one and files by themselves", () => {
  const file = null as unknown as File;
  const tops = topLevel([
    { path: "a.csv", file },
    { path: "photos/x.png", file },
    { path: "photos/deep/y.png", file },
  ]);
  expect(tops.map(({ name, isFolder, files }) => [name, isFolder, files.map((one) => one.path)])).toEqual([
    ["a.csv", false, ["a.csv"]],
    ["photos", true, ["x.png", "deep/y.png"]],
  ]);
});
