// The subcommand `explain`: why the byte at an address is what it is, in each address space.

import { type Explanation, formatHex, renderExplanation } from '../index.ts';
import { addressFrom } from './address.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { eventFactsJson, jsonLine } from './json.ts';
import { print, printLines } from './output.ts';
import { replayFile } from './source.ts';

const HELP = `usage: membacking explain FILE GPA [--json]

Says why a byte of guest memory is what it is, in each address space: the region that is visible there, those
that it hides, in order, the memory that is mapped there, and the memory slots that show it.

  FILE       a trace or a map (membacking import --help says which), plain or gzipped; - for standard input
  GPA        the guest-physical address: 0xc8000, or as it is printed, 8 to 16 hexadecimal digits: 000c8000
  --json     one line per address space
  --help     print this

Examples:
  membacking explain pc.jsonl 0xc8000
  membacking explain mtree.txt 00000000fffffff0 --json
`;

export const explainCommand: Command = {
  help: HELP,
  options: { json: { type: 'boolean' } },
  async run({ options, operands: [file, address, ...more] }) {
    if (file === undefined || address === undefined || more.length > 0)
      throw new UsageError('name one FILE and one GPA');
    const explanations = (await replayFile(file)).explain(addressFrom(address));
    if (options.json) {
      for (const explanation of explanations) await print(jsonLine(explanationJson(file, explanation)));
    } else {
      await printLines(explanations.flatMap(renderExplanation));
    }
    return EXIT.done;
  },
};

function explanationJson(file: string, explanation: Explanation): object {
  const { space, gpa, visible, hidden, mapping, slots, events, next } = explanation;
  return {
    file,
    addressSpace: space,
    gpa: formatHex(gpa),
    visible: visible === undefined ? null : regionJson(visible),
    hidden: hidden.map(regionJson),
    mapping: mapping === undefined ? null : { ...mapping, offset: formatHex(mapping.offset) },
    slots: slots.map(({ sink, slot, start, last, access }) => ({
      ...{ sink, slot, start: formatHex(start), end: formatHex(last), access },
    })),
    events: events.map(({ start, last, ...facts }) => ({
      ...{ start: formatHex(start), end: formatHex(last), ...eventFactsJson(facts) },
    })),
    next: next === undefined ? null : { name: next.name, start: formatHex(next.start) },
  };
}

function regionJson({ start, last, offset, ...region }: NonNullable<Explanation['visible']>): object {
  return { ...region, start: formatHex(start), end: formatHex(last), offsetInRegion: formatHex(offset) };
}
