// Checks an AsyncAPI document with the project's own parser: its schema, its references and its examples.
// Arguments: the node_modules with the parser, the document. Says what is wrong on standard error and ends with 1.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [modules, path] = process.argv.slice(2);
const { Parser } = createRequire(join(modules, 'anything.js'))('@asyncapi/parser');

// That there is a newer version of AsyncAPI is no fault of a document.
const parser = new Parser({ ruleset: { core: true, recommended: true } });
const { document, diagnostics } = await parser.parse(await readFile(path, 'utf8'));
const faults = diagnostics.filter(({ code }) => code !== 'asyncapi-latest-version');
for (const { code, path, message } of faults) {
  console.error(`${path.join('.')}: ${message} (${code})`);
}
if (!document || faults.length > 0) {
  process.exit(1);
}
console.log(`${document.allMessages().length} messages, ${document.allOperations().length} operations`);
