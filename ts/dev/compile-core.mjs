// Compiles the core and gives its state to its host: node compile-core.mjs TARGET FILE.wasm, a target of asconfig.json
// and the file that it names. Every mutable global is exported, as state0, state1 and on; with the memory they are all
// that a core knows, so who copies both can put the core back to that moment.
//
// One program for both: most of what the second would cost is reading Binaryen.

import { readFileSync, writeFileSync } from 'node:fs';
import { main } from 'assemblyscript/asc';
import binaryen from 'binaryen';

const [target, path] = process.argv.slice(2);
const { error } = await main(['--target', target], { stdout: process.stdout, stderr: process.stderr });
if (error) process.exit(1); // the compiler has said why

const module = binaryen.readBinary(readFileSync(path));
module.setFeatures(binaryen.Features.All);
binaryen.setDebugInfo(true); // names of functions, where there are any

let count = 0;
for (let index = 0; index < module.getNumGlobals(); index++) {
  const { name, mutable } = binaryen.getGlobalInfo(module.getGlobalByIndex(index));
  if (mutable) module.addGlobalExport(name, `state${count++}`);
}
if (!module.validate()) throw new Error(`${path} is no valid module any more`);
writeFileSync(path, module.emitBinary());
