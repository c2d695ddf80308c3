// The subcommand `compare-slots`: the memory slots of any monitor on KVM, as its log of system calls tells them,
// beside what this package plans for the same changes.

import { type Command, EXIT, UsageError } from './command.ts';
import { MonitorLog } from './compare/monitor-log.ts';
import { linesOf } from './compare/strace.ts';
import { machineJson, machineLines, summaryLines } from './compare/text.ts';
import { jsonLine } from './json.ts';
import { complain, print, printLines } from './output.ts';

const HELP = `usage: membacking compare-slots LOG [--summary] [--json]

Tells what a monitor does with KVM's memory slots, change by change, and what this package plans for the same changes:
slot operations, bytes that were absent although the same memory is there before and after, slots that were lost
although a part of what they showed stays. Memory that goes on from page to page, in the guest as in the monitor, is
planned as one region. No monitor is changed for it, and none has to be this package's own:

  strace -f -o LOG -e trace=ioctl,mmap,munmap,mprotect,madvise,memfd_create qemu-system-x86_64 -accel kvm …

A change is what one thread does up to where it takes a slot away after it has added one, maps or unmaps memory, or
runs a vCPU. In the history + is a slot that is added, - one that is deleted, > moved, = replaced, * one whose dirty
log is switched. A file descriptor is a virtual machine; slots from 65536 on are another address space of it.

  LOG        what strace wrote, plain or gzipped; - for standard input
  --summary  the counts alone
  --json     a line for each change; a line with the counts of each address space
  --help     print this

Examples:
  membacking compare-slots qemu.log | less
  membacking compare-slots qemu.log.gz --summary
  membacking compare-slots qemu.log --json | jq 'select(.monitor.absent > 0) | .line'
`;

export const compareSlotsCommand: Command = {
  help: HELP,
  options: { summary: { type: 'boolean' }, json: { type: 'boolean' } },
  async run({ options: { summary, json }, operands: [file, another] }) {
    if (file === undefined || another !== undefined) throw new UsageError('name one LOG, or - for standard input');
    const log = new MonitorLog(file);
    for await (const line of linesOf(file)) log.take(line);
    const machines = log.end();
    if (machines.length === 0) complain('note', `${file}: no memory slot is told of in it`);
    for (const machine of machines) {
      if (json) for (const part of machineJson(machine)) await print(jsonLine(part));
      else await printLines(summary ? summaryLines(machine) : machineLines(machine, log));
    }
    return EXIT.done;
  },
};
