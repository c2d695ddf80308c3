// Packs recorded QEMU maps into the fixtures of the tests: node ts/dev/pack-fixtures.mjs FOLDER
//
// FOLDER/cases/*.json   memory maps: a tree of regions and the flat map QEMU made of it
// FOLDER/kvm/*.jsonl    the memory slot operations of whole boots, one call a line
// FOLDER/mtree/*.txt    what QEMU's monitor printed for "info mtree" and "info mtree -f"
//
// Fields that only repeat others are left out, and objects become lists; tests/support/qemu-cases.ts unpacks them.
// The same folder gives the same bytes. The recorded trace in ts/trace/samples is a fixture too, of the product:
// it is what `membacking import` made of x86_64.pc.vga-qxl.boot.t01, t02 and t03 (--cpu-smm-0).

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const folder = process.argv[2];
if (folder === undefined) {
  console.error('usage: node ts/dev/pack-fixtures.mjs FOLDER');
  process.exit(2);
}
write(
  'qemu-cases',
  filesOf('cases', '.json').map(([, text]) => packCase(JSON.parse(text))),
);
write(
  'qemu-slots',
  filesOf('kvm', '.jsonl').map(([name, text]) => packSlots(name, text)),
);
write('qemu-mtree', filesOf('mtree', '.txt'));

/** [name, moment, address spaces, root, regions, rows] */
function packCase({ name, moment, address_spaces, tree, flat }) {
  return [name, moment, address_spaces, tree.root, tree.regions.map(packRegion), flat.map(packRow)];
}

/** [name, kind, offset, size, priority, flags, children, target, target_start], the last three where there are any */
function packRegion({ name, kind, offset, size, priority, children, target, target_start, ...flags }) {
  const region = [name, kind, hex(offset), hex(size), priority, packFlags(flags)];
  if (target !== undefined) return [...region, children ?? 0, target, hex(target_start)];
  return children === undefined ? region : [...region, children];
}

/** [start, end, region, offset in region, flags] */
function packRow({ start, end, region, offset_in_region, ...flags }) {
  return [hex(start), hex(end), region, hex(offset_in_region), packFlags(flags)];
}

/** d: disabled, r: read-only, n: nonvolatile */
function packFlags({ enabled = true, readonly = false, nonvolatile = false }) {
  return `${enabled ? '' : 'd'}${readonly ? 'r' : ''}${nonvolatile ? 'n' : ''}`;
}

/**
 * [name, block names, [slot, flags, gpa, size, block, offset in block] of each call]. Blocks of one name are told
 * apart by where QEMU had them: the second is called `NAME#2`.
 */
function packSlots(name, text) {
  const blocks = new Map();
  const calls = text
    .trim()
    .split('\n')
    .map((line) => {
      const call = JSON.parse(line);
      const base = `${call.block} ${BigInt(call.hva) - BigInt(call.hva_offset)}`;
      if (!blocks.has(base)) blocks.set(base, { index: blocks.size, name: call.block });
      return [call.slot, call.flags, hex(call.gpa), hex(call.size), blocks.get(base).index, hex(call.hva_offset)];
    });
  const seen = new Map();
  const names = [...blocks.values()].map(({ name: block }) => {
    seen.set(block, (seen.get(block) ?? 0) + 1);
    return seen.get(block) === 1 ? block : `${block}#${seen.get(block)}`;
  });
  return [name, names, calls];
}

/** Digits alone. */
function hex(text) {
  return text.slice(2);
}

function filesOf(subfolder, extension) {
  return readdirSync(join(folder, subfolder))
    .filter((file) => file.endsWith(extension))
    .sort()
    .map((file) => [file.slice(0, -extension.length), readFileSync(join(folder, subfolder, file), 'utf8')]);
}

function write(name, items) {
  const file = new URL(`../../tests/fixtures/${name}.jsonl.gz`, import.meta.url);
  const packed = gzipSync(items.map((item) => `${JSON.stringify(item)}\n`).join(''), { level: 9 });
  writeFileSync(file, packed);
  console.log(`${name}: ${items.length} items, ${packed.length} bytes`);
}
