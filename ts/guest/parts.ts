// Parts of a guest's memory manager that its files share.

import type { Region } from '../asked/region.ts';
import type { AddressSpace } from '../asked/space.ts';
import type { Address } from '../core/address.ts';
import type { MemoryMap } from '../map/map.ts';
import type { VaSpace } from '../sinks/va-space.ts';
import type { RamStore } from './ram-store.ts';

/** The memory of one guest, as its builder hands it to its manager. */
export interface GuestMemoryParts {
  readonly map: MemoryMap;
  readonly root: Region;
  readonly space: AddressSpace;
  readonly va: VaSpace;
  readonly store: RamStore;
  readonly maxAddress: Address;
  readonly aliasMap: Address | undefined;
  readonly slotBudget: number | undefined;
}
