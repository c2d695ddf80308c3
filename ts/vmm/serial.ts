// A serial port (16550) that only sends.

import type { PortBus } from './ports.ts';

const DATA = 0;
const INTERRUPT_ENABLE = 1;
const INTERRUPT_ID = 2;
const LINE_CONTROL = 3;
const MODEM_CONTROL = 4;
const LINE_STATUS = 5;
const MODEM_STATUS = 6;
const SCRATCH = 7;

const SENDS_INTERRUPT = 0x02;
const DIVISOR_ACCESS = 0x80;
const NO_INTERRUPT = 0x01;
const IS_EMPTY = 0x02;
const EVERYTHING_SENT = 0x60;
const CONNECTED = 0xb0;

export interface SerialWires {
  /** A byte is sent. */
  send(byte: number): void;
  interrupt(isRaised: boolean): void;
}

export class SerialPort {
  readonly #wires: SerialWires;
  readonly #registers = new Uint8Array(8);
  readonly #divisor = new Uint8Array(2);
  #isEmptyPending = false;

  /** `first`: 3f8 for COM1. */
  constructor(ports: PortBus, first: number, wires: SerialWires) {
    this.#wires = wires;
    ports.claim(first, 8, {
      widest: 1,
      read: (register) => this.#read(register),
      write: (register, _, value) => this.#write(register, value),
    });
  }

  reset(): void {
    this.#registers.fill(0);
    this.#setEmptyPending(false);
  }

  get #seesDivisor(): boolean {
    return (this.#registers[LINE_CONTROL]! & DIVISOR_ACCESS) !== 0;
  }

  #read(register: number): number {
    if (register <= INTERRUPT_ENABLE && this.#seesDivisor) return this.#divisor[register]!;
    switch (register) {
      case DATA:
        return 0;
      case INTERRUPT_ID: {
        const id = this.#isEmptyPending ? IS_EMPTY : NO_INTERRUPT;
        this.#setEmptyPending(false);
        return id;
      }
      case LINE_STATUS:
        return EVERYTHING_SENT;
      case MODEM_STATUS:
        return CONNECTED;
      default:
        return this.#registers[register]!;
    }
  }

  #write(register: number, value: number): void {
    if (register <= INTERRUPT_ENABLE && this.#seesDivisor) {
      this.#divisor[register] = value;
      return;
    }
    switch (register) {
      case DATA:
        this.#wires.send(value);
        this.#setEmptyPending((this.#registers[INTERRUPT_ENABLE]! & SENDS_INTERRUPT) !== 0);
        break;
      case INTERRUPT_ENABLE:
        this.#registers[register] = value & 0x0f;
        this.#setEmptyPending((value & SENDS_INTERRUPT) !== 0);
        break;
      case LINE_CONTROL:
      case SCRATCH:
        this.#registers[register] = value;
        break;
      case MODEM_CONTROL:
        this.#registers[register] = value & 0x1f;
        break;
    }
  }

  #setEmptyPending(isPending: boolean): void {
    if (this.#isEmptyPending === isPending) return;
    this.#isEmptyPending = isPending;
    this.#wires.interrupt(isPending);
  }
}
