// Makes the API's types from the OpenAPI document that the server's own tests keep true. `npm run schema` writes them,
// `src/api/schema.test.ts` fails when they have drifted.

import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";

const DOCUMENT = new URL("../../tests/openapi.json", import.meta.url);
export const SCHEMA = new URL("../src/api/schema.ts", import.meta.url);
const HEAD = "// Made from tests/openapi.json by `npm run schema`. Don't edit it.\n\n";

/** The text that `schema.ts` must have. */
export async function schema() {
  const document = JSON.parse(await readFile(DOCUMENT, "utf8"));
  // A default of the server makes a field optional for whoever sends it.
  return HEAD + astToString(await openapiTS(document, { defaultNonNullable: false }));
}

if (process.argv.includes("--write")) await writeFile(SCHEMA, await schema());
