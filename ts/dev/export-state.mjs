// Gives a core's state to its host: node export-state.mjs FILE.wasm. Every mutable global is exported, as state0,
// state1 and on; with the memory they are all that a core knows, so who copies both can put the core back to that
// moment.

import { readFileSync, writeFileSync } from 'node:fs';
import binaryen from 'binaryen';

const [path] = process.argv.slice(2);
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
