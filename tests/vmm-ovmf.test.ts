// OVMF, as Debian has it, comes to its shell on the monitor. Only in the lab: it has a stock KVM, in a machine whose
// emulator can serve OVMF's interrupts.

import { existsSync, readFileSync } from 'node:fs';
import test from 'ava';
import { SharedMemory } from '../ts/index.ts';
import { Monitor } from '../ts/vmm/index.ts';
import { kvmMissing } from './support/guest.ts';
import { PATIENCE } from './support/patience.ts';

const FOLDER = '/usr/share/OVMF';
const [CODE, VARIABLES] = [`${FOLDER}/OVMF_CODE_4M.fd`, `${FOLDER}/OVMF_VARS_4M.fd`];

const missing =
  kvmMissing ??
  (process.env.MEMBACKING_GUESTS === undefined ? 'the machine for it is in the lab' : undefined) ??
  (existsSync(CODE) && existsSync(VARIABLES) ? undefined : 'Debian: apt-get install ovmf');

const body = test.macro(async (t) => {
  t.timeout(PATIENCE);
  let said = '';
  const variables = readFileSync(VARIABLES);
  const firmwareVariables = SharedMemory.create(variables.byteLength, { name: 'variables' });
  firmwareVariables.write(0, variables);
  const monitor = new Monitor({
    start: { firmware: readFileSync(CODE), firmwareVariables },
    memory: 256 * 2 ** 20,
    onSerial: (byte) => {
      said += String.fromCharCode(byte);
      if (said.includes('UEFI Interactive Shell')) monitor.stop();
    },
  });
  const timer = setTimeout(() => monitor.stop(), PATIENCE - 10_000);
  try {
    await monitor.run();
    t.regex(said, /BdsDxe: starting Boot\d+ "EFI Internal Shell"[\s\S]*UEFI Interactive Shell/);
  } finally {
    clearTimeout(timer);
    monitor.close();
    firmwareVariables.close();
  }
});

if (missing === undefined) test('OVMF finds no disk to boot from, and starts its shell', body);
else test.skip(`OVMF finds no disk to boot from, and starts its shell: ${missing}`, body);
