// A vCPU as the tutorial's guests need it: in real mode, at an address below 64 KiB.

/** Sets a vCPU to an address. */
export function startAt(vcpu, address) {
  vcpu.specialRegisters = { cs: { ...vcpu.specialRegisters.cs, base: 0n, selector: 0 } };
  vcpu.registers = { rip: BigInt(address), rflags: 2n };
}
