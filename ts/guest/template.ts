// Templates: a snapshot that is kept in memory, to make guests from.

import type { SharedMemory } from '../asked/object.ts';
import type { Address } from '../core/address.ts';
import { Handle } from '../core/handle.ts';
import * as validate from '../core/validate.ts';
import type { SnapshotLayout } from '../snapshot/layout.ts';

/** Layout of a template: that of a snapshot without a place on disk. */
export type TemplateLayout = Omit<SnapshotLayout, 'id' | 'base' | 'memory'>;

/** Layout of a template. @internal */
export let layoutOf: (template: Template) => TemplateLayout;
/** Memory of a template. Throws CLOSED. @internal */
export let memoryOfTemplate: (template: Template) => SharedMemory;

/** A guest's memory with its layout as it was at one moment, kept in memory: `GuestMemoryBuilder.fromTemplate` makes
 *  guests of it, which share all pages that they do not write. Closing it leaves them as they are. */
export class Template extends Handle {
  readonly #memory: SharedMemory;
  readonly #layout: TemplateLayout;

  static {
    layoutOf = (template) => template.#layout;
    memoryOfTemplate = (template) => {
      template.checkOpen();
      return template.#memory;
    };
  }

  /** @internal Made by GuestMemoryManager.freeze. */
  constructor(memory: SharedMemory, layout: TemplateLayout) {
    super();
    validate.madeBy('GuestMemoryManager.freeze', memory);
    this.#memory = memory;
    this.#layout = layout;
  }

  protected override get what(): string {
    return 'the template';
  }

  /** Bytes of memory in use, those of pages included that were zeroes and that a guest of it has touched. */
  get allocatedBytes(): Address {
    this.checkOpen();
    return this.#memory.allocatedBytes!;
  }

  protected override release(): void {
    this.#memory.close();
  }
}
