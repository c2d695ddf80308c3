// Virtual trust levels.

/** Virtual trust levels: 0 is the guest, 2 what watches over it. */
export const VTLS = [0, 2] as const;
export type Vtl = (typeof VTLS)[number];
