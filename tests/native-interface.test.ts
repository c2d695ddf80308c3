// Guest memory for native code, by membacking.h: a device in an addon of its own (tests/native/native-device.cc) reads,
// writes and locks it from its own thread while the guest hides RAM and moves BARs. Nothing of that ends the process.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import type { GuestMemoryManager } from '../ts/index.ts';
import { namelessFile } from './support/nameless-file.ts';
import { tries } from './support/random.ts';
import { footprint, PAGE } from './support/shim-plan.ts';
import { buildVm, MIB } from './support/vm.ts';

const PAM = 0xc8000;
const BAR = 0x8000_0000;
const [OK, OUTSIDE, HOLE, READ_ONLY, MISALIGNED, CHANGING] = [0, -1, -2, -3, -5, -6];

type Result = [error: number, gpa: number, value: number];

interface Device {
  read(ranges: number[], into: Uint8Array): Result;
  write(ranges: number[], from: Uint8Array): Result;
  load(gpa: number, width: number): Result;
  store(gpa: number, width: number, value: number): Result;
  compareExchange(gpa: number, width: number, expected: number, value: number): Result;
  lock(ranges: number[], isWrite: boolean, holder: string): Result;
  unlock(): void;
  translate(gpa: number): number | undefined;
  start(ranges: number[]): void;
  stop(): number[];
  close(): void;
}

const addon = createRequire(import.meta.url)(artefact('obj/native-device.node').pathname);

function deviceOn({ va }: GuestMemoryManager): Device {
  return new addon.Device(va.nativeInterface, va.token);
}

function pc(): GuestMemoryManager {
  return buildVm({ x86LegacySupport: true, ram: [{ ranges: [{ gpa: 0, length: 4 * MIB }] }] });
}

test('native code reads, writes and exchanges guest memory; what is not there is an error with its GPA', (t) => {
  const before = footprint();
  const manager = pc();
  const device = deviceOn(manager);
  const { guestMemory, ramVisibility } = manager;
  t.deepEqual(device.store(0x2000, 4, 0x12345678), [OK, 0x2004, 0]);
  t.is(guestMemory.readU32(0x2000), 0x12345678);
  t.deepEqual(device.load(0x2001, 2), [OK, 0x2003, 0x3456]);
  t.deepEqual(device.compareExchange(0x2000, 4, 0x12345678, 9), [OK, 0x2004, 0x12345678]);
  t.deepEqual(device.compareExchange(0x2000, 4, 7, 8), [OK, 0x2004, 9]);
  t.deepEqual(device.compareExchange(0x2002, 4, 0, 0), [MISALIGNED, 0x2002, 0]);
  t.deepEqual(device.load(0x2000, 3), [MISALIGNED, 0x2000, 0]);
  const scattered = [0x3000, 3, 0x5000, 2, 0x4000, 1];
  t.deepEqual(device.write(scattered, Uint8Array.of(1, 2, 3, 4, 5, 6)), [OK, 0x4001, 0]);
  const bytes = new Uint8Array(6);
  t.deepEqual(device.read(scattered, bytes), [OK, 0x4001, 0]);
  t.deepEqual([...bytes], [1, 2, 3, 4, 5, 6]);
  ramVisibility.set({ gpa: PAM, length: 0x4000 }, 'unmapped');
  const page = new Uint8Array(2 * PAGE).fill(7);
  t.deepEqual(device.write([PAM - PAGE, 2 * PAGE], page), [HOLE, PAM, 0]);
  t.is(guestMemory.readU8(PAM - 1), 7, 'bytes before are written');
  ramVisibility.set({ gpa: PAM, length: 0x4000 }, 'read-only');
  t.deepEqual(device.write([PAM, 1], page), [READ_ONLY, PAM, 0]);
  t.deepEqual(device.read([PAM, 1], page), [OK, PAM + 1, 0]);
  t.deepEqual(device.load(2 ** 52, 8), [OUTSIDE, 2 ** 52, 0]);
  t.is(addon.symbolOf(artefact('membacking.node').pathname), manager.va.nativeInterface);
  const { token, nativeInterface } = manager.va;
  device.close();
  manager.close();
  t.throws(() => new addon.Device(nativeInterface, token), { message: 'no VA space has this token' });
  t.deepEqual(footprint(), before);
});

test('a thread copies and locks while the guest flips PAM and moves BARs', async (t) => {
  const manager = pc();
  const { ramVisibility, deviceMapper } = manager;
  const { region, control } = deviceMapper.newRegion(4 * PAGE, 'bar');
  region.map(0, namelessFile(4 * PAGE), 0, 4 * PAGE, true);
  const device = deviceOn(manager);
  device.start([PAM, 0x4000, BAR, 4 * PAGE, BAR + 16 * PAGE, 4 * PAGE]);
  const later = async (change: () => void) => {
    for (;;) {
      try {
        return change();
      } catch (error) {
        if ((error as { code?: string }).code !== 'LEASED') throw error;
        await delay(0);
      }
    }
  };
  for (let round = 0; round < tries(400); round++) {
    await later(() => ramVisibility.set({ gpa: PAM, length: 0x4000 }, round % 2 === 0 ? 'unmapped' : 'read-write'));
    await later(() => control.mapToGuest(round % 2 === 0 ? BAR : BAR + 16 * PAGE));
    if (round % 16 === 0) await delay(1);
  }
  const counts = device.stop();
  t.true(counts[-OK]! > 0 && counts[-HOLE]! > 0, `${counts}`);
  t.deepEqual([counts[1], counts[4], counts[5]], [0, 0, 0], 'outside, gone, misaligned');
  t.log(counts);
  device.close();
  manager.close();
});

test('what native code has locked is not taken away: a change is refused with the holder, or waits', async (t) => {
  const manager = pc();
  const { ramVisibility, guestMemory, map } = manager;
  const device = deviceOn(manager);
  guestMemory.writeU32(PAM + 8, 5);
  const hide = () => ramVisibility.set({ gpa: PAM, length: 0x4000 }, 'unmapped');
  t.is(device.lock([PAM, PAGE, 0x1000, 4], true, 'disk queue')[0], OK);
  t.is(device.translate(PAM + 8), 5);
  t.is(device.translate(PAM + PAGE - 3), undefined, 'a part of it is not locked');
  const refused = t.throws(hide, { code: 'LEASED', message: /in use by "disk queue"/ });
  t.like(refused, { details: { leases: [{ holder: 'disk queue', mode: 'write', gpa: PAM, length: PAGE }] } });
  t.throws(() => ramVisibility.set({ gpa: PAM, length: 0x4000 }, 'read-only'), { code: 'LEASED' });
  ramVisibility.set({ gpa: PAM + 0x4000, length: 0x4000 }, 'unmapped'); // nobody has locked that
  t.is(guestMemory.readU32(PAM + 8), 5);
  const waiting = map.whenFree(hide);
  const second = deviceOn(manager);
  await delay(10);
  t.is(second.lock([PAM, 4], false, 'another')[0], CHANGING, 'nobody comes in before those that wait');
  device.unlock();
  await waiting;
  t.is(device.load(PAM, 4)[0], HOLE);
  t.deepEqual(device.lock([0x1000, 4, PAM, 4], false, 'disk queue').slice(0, 2), [HOLE, PAM]);
  t.deepEqual(device.lock([2 ** 52, 4], false, 'disk queue').slice(0, 2), [OUTSIDE, 2 ** 52]);
  ramVisibility.set({ gpa: PAM, length: 0x4000 }, 'read-only');
  t.deepEqual(device.lock([PAM, 4], true, 'disk queue').slice(0, 2), [READ_ONLY, PAM]);
  t.is(device.lock([PAM, 4], false, 'disk queue')[0], OK, 'a lock to read');
  ramVisibility.set({ gpa: PAM, length: 0x4000 }, 'read-write');
  device.unlock();
  hide();
  for (const one of [device, second]) one.close();
  manager.close();
});

test('the header is C, and is found in the package', (t) => {
  const header = createRequire(import.meta.url).resolve('membacking/membacking.h');
  t.true(existsSync(header));
  const args = ['-std=c99', '-Wall', '-Wextra', '-pedantic', '-Werror', '-fsyntax-only', '-x', 'c', header];
  const { status, stderr } = spawnSync(process.env.CC ?? 'cc', args, { encoding: 'utf8' });
  t.is(status, 0, stderr);
});
