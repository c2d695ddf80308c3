// Snapshots in streams, as bytes.

import { Writable } from 'node:stream';
import type { GuestMemoryManager, SnapshotOptions } from '../../ts/index.ts';

/** All bytes of a guest's snapshot in a stream. */
export async function recorded(manager: GuestMemoryManager, options: SnapshotOptions = {}): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _, done) {
      chunks.push(Buffer.from(chunk));
      done();
    },
  });
  await manager.snapshot(stream, { state: 'recorded', ...options });
  return Buffer.concat(chunks);
}
