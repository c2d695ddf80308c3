// Subcommands by name. One is loaded when it is asked for, and nothing that it does not need.

import type { Command } from './command.ts';

export interface CommandEntry {
  /** A line of `membacking --help`. */
  readonly summary: string;
  load(): Promise<Command>;
}

export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  import: {
    summary: 'make a trace from memory maps recorded elsewhere',
    load: async () => (await import('./import.ts')).importCommand,
  },
  replay: {
    summary: 'replay a trace through the core: views, plans, counts, a hash',
    load: async () => (await import('./replay.ts')).replayCommand,
  },
  flatview: {
    summary: 'what each address space of a map or trace shows',
    load: async () => (await import('./flatview.ts')).flatviewCommand,
  },
  explain: {
    summary: 'why a byte of guest memory is what it is',
    load: async () => (await import('./explain.ts')).explainCommand,
  },
  view: {
    summary: 'a page that shows a trace or a map step by step, or a still picture',
    load: async () => (await import('./view.ts')).viewCommand,
  },
  'compare-slots': {
    summary: "a monitor's memory slots, told by strace, beside what this package plans",
    load: async () => (await import('./compare-slots.ts')).compareSlotsCommand,
  },
  boot: {
    summary: 'a small PC on KVM, on which firmware or a kernel starts',
    load: async () => (await import('./boot.ts')).bootCommand,
  },
  restore: {
    summary: 'a machine of boot goes on from a snapshot, once or as clones',
    load: async () => (await import('./restore.ts')).restoreCommand,
  },
  snapshot: {
    summary: 'snapshots of guest memory: what is in them, verify, diff, merge',
    load: async () => (await import('./snapshot.ts')).snapshotCommand,
  },
  top: {
    summary: "a running guest's memory, in a terminal",
    load: async () => (await import('./top.ts')).topCommand,
  },
  doctor: {
    summary: 'what this machine can do for a monitor, and what mends the rest',
    load: async () => (await import('./doctor.ts')).doctorCommand,
  },
  compile: {
    summary: 'the addon from its sources, where the package brings none that loads',
    load: async () => (await import('./compile.ts')).compileCommand,
  },
  demo: {
    summary: "a recorded machine's map on real memory, seen by a real guest",
    load: async () => (await import('./demo.ts')).demoCommand,
  },
};
