// The ports of a PC that are hardly devices: reset and A20, the firmware's log, and the way out of the monitor.

import type { PortBus } from './ports.ts';

interface SystemWires {
  /** The firmware logs a byte. */
  log(byte: number): void;
  /** The guest wants to begin anew. */
  reset(): void;
  /** The guest is done; 0 is success. */
  exit(status: number): void;
}

export const RESET_PORT = 0xcf9;
export const RESET_NOW = 0x04;
const PORT_92 = 0x92;
const A20_OPEN = 0x02;
const PORT_92_RESET = 0x01;
const KEYBOARD_COMMAND = 0x64;
const PULSE_RESET = 0xfe;
const FIRMWARE_LOG = 0x402;
const LOG_IS_THERE = 0xe9;
export const EXIT_PORT = 0xf4;

/** Claims the ports of reset and power. Call it before others claim ports: cf9 lies in the middle of PCI's. */
export function claimSystemPorts(ports: PortBus, wires: SystemWires): void {
  const claim = (port: number, read: number, write: (value: number) => void) =>
    ports.claim(port, 1, { widest: 1, read: () => read, write: (_, __, value) => write(value) });
  claim(RESET_PORT, 0, (value) => value & RESET_NOW && wires.reset());
  claim(PORT_92, A20_OPEN, (value) => value & PORT_92_RESET && wires.reset());
  claim(KEYBOARD_COMMAND, 0xff, (value) => value === PULSE_RESET && wires.reset());
  claim(FIRMWARE_LOG, LOG_IS_THERE, (value) => wires.log(value));
  claim(EXIT_PORT, 0xff, (value) => wires.exit(value));
}
