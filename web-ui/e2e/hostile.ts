// A guest that writes what would hurt a careless page: markup, terminal escapes, names that lie.

import wabt from "wabt";

export const MARK = "pwned";
const SCRIPT = `<script>window.${MARK}=1</script>`;
const IMAGE = `<img src=x onerror="window.${MARK}=1">`;

export const HOSTILE_OUTPUT = `${SCRIPT}\n\u001b[31mred\u001b[0m \u001b]0;owned\u0007${IMAGE}\n\u001b]8;;javascript:window.${MARK}=1\u001b\\link\u001b]8;;\u001b\\ end\r\n\u0008\u202etxt\n`;
/** Names below /out. */
export const HOSTILE_FILES: Record<string, string> = {
  [`${IMAGE.replace("/", "")}.txt`]: `${SCRIPT}\n`,
  "picture.svg": `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="parent.${MARK}=1"><script>parent.${MARK}=1;top.${MARK}=1</script><image href="https://example.com/x.png"/><rect width="40" height="40" fill="red"/></svg>`,
  "page.html": `<html><body onload="parent.${MARK}=1">${SCRIPT}</body></html>`,
  "data.json": JSON.stringify({ [IMAGE]: SCRIPT, __proto__x: { [MARK]: 1 }, list: [1, 2, { deep: null }] }),
  "\u001b[31m\u202egnp.exe": "\u0000\u0001\u0002\u00ff",
};

const encoder = new TextEncoder();

function escaped(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => `\\${byte.toString(16).padStart(2, "0")}`).join("");
}

/** The guest as a module. */
export async function hostileGuest(): Promise<Uint8Array> {
  const segments: string[] = [];
  let at = 1024;
  const put = (text: string) => {
    const bytes = encoder.encode(text);
    segments.push(`(data (i32.const ${at}) "${escaped(bytes)}")`);
    const place = { at, length: bytes.length };
    at += bytes.length;
    return place;
  };
  const steps: string[] = [];
  const output = put(HOSTILE_OUTPUT);
  for (const descriptor of [1, 2]) steps.push(`(call $write (i32.const ${descriptor}) (i32.const ${output.at}) (i32.const ${output.length}))`);
  const folder = put("out");
  steps.push(`(drop (call $mkdir (i32.const 3) (i32.const ${folder.at}) (i32.const ${folder.length})))`);
  for (const [name, text] of Object.entries(HOSTILE_FILES)) {
    const [path, body] = [put(`out/${name}`), put(text)];
    steps.push(`(call $file (i32.const ${path.at}) (i32.const ${path.length}) (i32.const ${body.at}) (i32.const ${body.length}))`);
  }
  const wat = `(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    ${segments.join("\n")}
    (func $write (param $fd i32) (param $at i32) (param $length i32)
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $length))
      (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
    (func $file (param $path i32) (param $path_length i32) (param $at i32) (param $length i32)
      (if (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $path_length) (i32.const 9)
            (i64.const 0x1fffffff) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
      (call $write (i32.load (i32.const 16)) (local.get $at) (local.get $length)))
    (func (export "_start") ${steps.join("\n")}))`;
  const tools = await wabt();
  const module = tools.parseWat("hostile.wat", wat);
  try {
    return module.toBinary({}).buffer;
  } finally {
    module.destroy();
  }
}
