// Step 6: a device in a worker. It works on the guest's memory while the guest runs.

import { once } from 'node:events';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { GuestMemoryBuilder, KvmPartition, WorkerGuestMemory } from 'membacking';
import { startAt } from './real-mode.js';

const REQUEST = 0x3000; // a text, up to a 0
const STATUS = 0x3080; //  1: done

if (isMainThread) await monitor();
else device();

/** Makes texts capitals, one for each time that the doorbell rings. */
function device() {
  const memory = WorkerGuestMemory.fromToken(workerData.token);
  const doorbell = new Int32Array(workerData.doorbell);
  Atomics.wait(doorbell, 0, 0);
  const text = new Uint8Array(STATUS - REQUEST);
  memory.read(REQUEST, text);
  memory.write(REQUEST, Buffer.from(Buffer.from(text).toString('latin1').toUpperCase(), 'latin1'));
  memory.writeU8(STATUS, 1);
  memory.close();
}

async function monitor() {
  const manager = new GuestMemoryBuilder().addRam({ name: 'ram', ranges: [{ gpa: 0, length: 0xa0000 }] }).build();
  const program = [
    [0xe6, 0x20], //                   out 20, al             the doorbell
    [0x80, 0x3e, 0x80, 0x30, 0x01], // cmp byte [3080], 1
    [0x75, 0xf9], //                   jne                    until it is done
    [0xbe, 0x00, 0x30], //             mov si, 3000
    [0xac], //                         lodsb
    [0x84, 0xc0], //                   test al, al
    [0x74, 0x04], //                   jz                     to the end
    [0xe6, 0xe9], //                   out e9, al
    [0xeb, 0xf7], //                   jmp                    to the next letter
    [0xf4], //                         hlt
  ];
  manager.guestMemory.write(0x1000, Uint8Array.from(program.flat()));
  manager.guestMemory.write(REQUEST, Buffer.from('hello\0'));

  const doorbell = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { token: manager.client().token, doorbell: doorbell.buffer },
  });
  const ended = once(worker, 'exit'); // it may end before the guest does

  const partition = KvmPartition.open();
  manager.attachPartition(partition);
  const vcpu = partition.createVcpu(0);
  startAt(vcpu, 0x1000);
  let printed = '';
  // On a thread of its own: this one stays free for whatever else a monitor does.
  for (let exit = await vcpu.runAsync(); exit.kind === 'io'; exit = await vcpu.runAsync()) {
    if (exit.port === 0x20) {
      Atomics.store(doorbell, 0, 1);
      Atomics.notify(doorbell, 0);
    } else {
      printed += String.fromCharCode(exit.data[0]);
    }
  }
  console.log(printed);

  await ended;
  vcpu.close();
  partition.close();
  manager.close();
}
