import { expect, it } from "vitest";
import { cliCommand, curlCommand, missingFolders, serverOption, shellWord } from "./command";

it("quotes what a shell would read otherwise", () => {
  expect(shellWord("/data/a.csv")).toBe("/data/a.csv");
  expect(shellWord("")).toBe("''");
  expect(shellWord("it's $HOME")).toBe(`'it'\\''s $HOME'`);
});

it("writes the run as a command of curl that survives quotes", () => {
  const command = curlCommand("http://127.0.0.1:7070", { module: "sha256:ab", args: ["it's"] });
  expect(command).toContain("curl -sS http://127.0.0.1:7070/v1/runs");
  expect(command).toContain(`"it'\\''s"`);
});

it("writes the run as a command of Lockstep", () => {
  const command = cliCommand(
    {
      module: "sha256:ab",
      args: ["-n", "3"],
      env: { LANG: "C" },
      stdin: { digest: "sha256:cd" },
      files: { "/data/a b.csv": { digest: "sha256:ef" }, "/photos": { tree: "sha256:01" } },
      seed: 7,
      limits: { memory_bytes: 512 * 2 ** 20 },
      verify: { policy: "quorum", n: 3 },
      timeout_ms: 1_500,
      placement: { mode: "labels", labels: { zone: "a" } },
    },
    { stdin: "input.txt", files: { "/data/a b.csv": "./a b.csv", "/photos": "./photos" } },
  );
  expect(command.split(" \\\n  ")).toEqual([
    "lockstep run ab",
    "--env LANG=C",
    "--file '/data/a b.csv=./a b.csv'",
    "--dir /photos=./photos",
    "--stdin input.txt",
    "--seed 7",
    "--memory 512MiB",
    "--quorum 3",
    "--timeout 1500ms",
    "--label zone=a",
    "-- -n 3",
  ]);
});

it("names profile, use of the cache and callback", () => {
  const request = { module: "sha256:ab", profile: "det-1-portable", cache: "off", callback: { url: "https://ci.example.org/hook?a=1&b=2" } } as const;
  expect(cliCommand(request).split(" \\\n  ")).toEqual([
    "lockstep run ab",
    "--profile det-1-portable",
    "--cache off",
    "--callback 'https://ci.example.org/hook?a=1&b=2'",
  ]);
});

it("pipes text that was typed", () => {
  expect(cliCommand({ module: "sha256:ab", stdin: { text: "to be\n" } })).toBe("printf %s 'to be\n' | lockstep run ab");
});

it("names the server where the command line would not find it, and fetches what an earlier run read", () => {
  expect(serverOption("http://127.0.0.1:7070")).toBeUndefined();
  expect(serverOption("http://localhost:7070")).toBeUndefined();
  const server = serverOption("https://pool.example.org");
  const request = {
    module: "sha256:ab",
    stdin: { digest: "sha256:cd" },
    files: { "/data/a.csv": { digest: "sha256:ef" }, "/photos": { tree: "sha256:01" } },
  };
  expect(cliCommand(request, { files: {}, server }).split(" \\\n")).toEqual([
    "lockstep blobs get sha256:ef --output ./a.csv --server https://pool.example.org &&",
    "lockstep blobs get sha256:cd --output - --server https://pool.example.org | lockstep run ab",
    "  --server https://pool.example.org",
    "  --file /data/a.csv=./a.csv",
    "  --dir /photos=./photos",
  ]);
  expect(missingFolders(request, { files: {} })).toEqual(["./photos"]);
  expect(missingFolders(request, { files: { "/photos": "./photos" } })).toEqual([]);
});
