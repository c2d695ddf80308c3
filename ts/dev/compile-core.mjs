// Compiles the core and gives its state to its host: node compile-core.mjs TARGET FILE.wasm, a target of asconfig.json
// and the file that it names. Every mutable global is exported, as state0, state1 and on; with the memory they are all
// that a core knows, so who copies both can put the core back to that moment.
//
// One program for all of it: most of what a second would cost is reading Binaryen.

import { readFileSync, writeFileSync } from 'node:fs';
import { main } from 'assemblyscript/asc';
import binaryen from 'binaryen';

const [target, path] = process.argv.slice(2);
const { error } = await main(['--target', target], { stdout: process.stdout, stderr: process.stderr });
if (error) process.exit(1); // the compiler has said why

const module = binaryen.readBinary(readFileSync(path));
module.setFeatures(binaryen.Features.All);
binaryen.setDebugInfo(true); // names of functions, where there are any

// V8 calls a function of Wasm where the core says so, and the compiler stops inlining sooner than pays off here: this
// takes 8 % off a change, and adds 13 KB. In Binaryen's own measure of size.
binaryen.setOptimizeLevel(3);
binaryen.setShrinkLevel(0);
binaryen.setAlwaysInlineMaxSize(30);
binaryen.setFlexibleInlineMaxSize(250);
binaryen.setOneCallerInlineMaxSize(10_000);
binaryen.setAllowInliningFunctionsWithLoops(true);
module.runPasses(['inlining-optimizing']);

let count = 0;
for (let index = 0; index < module.getNumGlobals(); index++) {
  const { name, mutable } = binaryen.getGlobalInfo(module.getGlobalByIndex(index));
  if (mutable) module.addGlobalExport(name, `state${count++}`);
}
if (!module.validate()) throw new Error(`${path} is no valid module any more`);
writeFileSync(path, module.emitBinary());
