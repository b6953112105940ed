import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { SCHEMA, schema } from "../../scripts/schema.mjs";

it("has the types of the served OpenAPI document (if not: npm run schema)", async () => {
  expect(await readFile(SCHEMA, "utf8")).toBe(await schema());
});
