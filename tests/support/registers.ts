// Registers of a vCPU for tests of the shim, which knows them as bytes.

import {
  changeState,
  REGISTERS,
  type Registers,
  readState,
  SPECIAL_REGISTERS,
  type SpecialRegisters,
} from '../../ts/core/kvm-state.ts';
import type { StateHolder } from '../../ts/core/native.ts';

const GENERAL = { name: 'registers', codec: REGISTERS };
const SPECIAL = { name: 'specialRegisters', codec: SPECIAL_REGISTERS };

export const getRegisters = (vcpu: StateHolder): Registers => readState(vcpu, GENERAL);
export const getSpecialRegisters = (vcpu: StateHolder): SpecialRegisters => readState(vcpu, SPECIAL);

/** Changes those that are given. */
export function setRegisters(vcpu: StateHolder, changes: Partial<Registers>): void {
  changeState(vcpu, GENERAL, changes);
}

/** Changes those that are given; a segment or table is given whole. */
export function setSpecialRegisters(vcpu: StateHolder, changes: Partial<SpecialRegisters>): void {
  changeState(vcpu, SPECIAL, changes);
}
