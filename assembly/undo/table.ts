// Tables of records: a small number, the id, names a record until it is freed. Freed ids are given out again, the last
// one first, but only by later transactions: two things of one id would look like one that did not change. Records live
// in chunks that never move.
//
// Every record begins with two words that belong to the table and the journal:
//
//    0       8        12
//   +-------+--------+------------
//   | stamp | life   | fields ...      life: ALIVE, or the next free (or freed) id + 1
//   +-------+--------+------------

import { ERR_CAPACITY, ERR_NO_MEMORY } from '../abi';
import { allocateForever, ensure } from '../base/heap';
import { ensureStep, saveImage, touch } from './journal';

const CHUNK_SHIFT: u32 = 8;
const ALIVE: u32 = 0xffffffff;
const STAMP_AT: u32 = 0;

@unmanaged
export class Entry {
  stamp: u64;
  life: u32;
}

/** A table; it lives in static memory, as `changetype<Table>(memory.data(TABLE_SIZE, 8))`, and is then `define`d. */
@unmanaged
export class Table {
  /** Ids given out so far; then, in the same journaled words, id + 1 of the first that is free, and of the first
   *  that was freed by the running transaction. */
  count: u32;
  free: u32;
  private freed: u32;
  private recordSize: u32;
  private capacity: u32;
  private chunks: usize;

  /** Makes the table, once. `chunks`: 4 zeroed bytes for each 256 of `capacity`. */
  define(recordSize: u32, capacity: u32, chunks: usize): void {
    this.recordSize = (recordSize + 7) & ~7;
    this.capacity = capacity;
    this.chunks = chunks;
  }

  // @ts-ignore: decorator
  @inline
  isAlive(id: u32): bool {
    return id < this.count && changetype<Entry>(this.address(id)).life == ALIVE;
  }

  /** Address of a record. Precondition: `id` was given out. */
  // @ts-ignore: decorator
  @inline
  address(id: u32): usize {
    return (
      <usize>load<u32>(this.chunks + ((id >> CHUNK_SHIFT) << 2)) + (id & ((1 << CHUNK_SHIFT) - 1)) * this.recordSize
    );
  }

  /** Journals a record before it is written to, and returns its address. */
  // @ts-ignore: decorator
  @inline
  touch(id: u32): usize {
    const at = this.address(id);
    touch(at, this.recordSize, STAMP_AT);
    return at;
  }

  /** Makes a record with all its fields 0. Returns its id, ERR_CAPACITY or ERR_NO_MEMORY. */
  allocate(): i32 {
    if (!ensureStep()) return ERR_NO_MEMORY;
    let id = this.count;
    if (this.free != 0) {
      id = this.free - 1;
    } else {
      if (id == this.capacity) return ERR_CAPACITY;
      if (!this.ensureChunk(id)) return ERR_NO_MEMORY;
    }
    saveImage(changetype<usize>(this), 16);
    const at = this.touch(id);
    if (id == this.count) this.count = id + 1;
    else this.free = changetype<Entry>(at).life;
    memory.fill(at + offsetof<Entry>('life'), 0, this.recordSize - offsetof<Entry>('life'));
    changetype<Entry>(at).life = ALIVE;
    return <i32>id;
  }

  private ensureChunk(id: u32): bool {
    const chunk = this.chunks + ((id >> CHUNK_SHIFT) << 2);
    if (load<u32>(chunk) != 0) return true;
    const bytes = this.recordSize << CHUNK_SHIFT;
    if (!ensure(bytes)) return false;
    store<u32>(chunk, <u32>allocateForever(bytes));
    return ensureStep();
  }

  /** Frees a record; its id is given out again after `recycle`. Precondition: alive. */
  release(id: u32): void {
    assert(this.isAlive(id));
    saveImage(changetype<usize>(this), 16);
    changetype<Entry>(this.touch(id)).life = this.freed;
    this.freed = id + 1;
  }

  /** Makes the ids that the ended transaction freed available again. */
  recycle(): void {
    if (this.freed == 0) return;
    let last = changetype<Entry>(this.address(this.freed - 1));
    while (last.life != 0) last = changetype<Entry>(this.address(last.life - 1));
    last.life = this.free;
    this.free = this.freed;
    this.freed = 0;
  }
}

export const TABLE_SIZE: i32 = 32;
