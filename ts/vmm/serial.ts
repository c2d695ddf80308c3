// A serial port (16550): what is sent is sent at once, what is received waits until it is read.

import type { PortBus } from './ports.ts';

const DATA = 0;
const INTERRUPT_ENABLE = 1;
const INTERRUPT_ID = 2;
const LINE_CONTROL = 3;
const MODEM_CONTROL = 4;
const LINE_STATUS = 5;
const MODEM_STATUS = 6;
const SCRATCH = 7;

const RECEIVED_INTERRUPT = 0x01;
const SENDS_INTERRUPT = 0x02;
const DIVISOR_ACCESS = 0x80;
const NO_INTERRUPT = 0x01;
const IS_EMPTY = 0x02;
const HAS_RECEIVED = 0x04;
const FIFO_ON = 0x01;
const FIFO_IS_ON = 0xc0;
const DATA_IS_READY = 0x01;
const EVERYTHING_SENT = 0x60;
const CONNECTED = 0xb0;

/** Other end of a serial port. */
export interface SerialWires {
  /** A byte is sent. */
  send(byte: number): void;
  /** The port's interrupt is raised or lowered. */
  interrupt(isRaised: boolean): void;
}

/** State of a serial port. */
export type SerialState = {
  /** The eight registers, as they were written. */
  readonly registers: Uint8Array;
  /** Divisor of the baud rate, low byte first. */
  readonly divisor: Uint8Array;
  /** Whether the interrupt of an empty sender is not answered yet. */
  readonly isEmptyPending: boolean;
  /** Whether the guest has switched the FIFO on. */
  readonly isFifoOn: boolean;
  /** Bytes that the guest has not read yet. */
  readonly received: Uint8Array;
};

/** A serial port, a 16550 without waiting: what the guest sends is sent at once. */
export class SerialPort {
  readonly #wires: SerialWires;
  readonly #registers = new Uint8Array(8);
  readonly #divisor = new Uint8Array(2);
  #isEmptyPending = false;
  #isFifoOn = false;
  #isRaised = false;
  /** Bytes that the guest has not read yet, and who waits for that: chunks with the next byte's place. */
  readonly #received: { readonly bytes: Uint8Array; next: number; readonly taken: () => void }[] = [];

  /** `first`: 3f8 for COM1. */
  constructor(ports: PortBus, first: number, wires: SerialWires) {
    this.#wires = wires;
    ports.claim(first, 8, {
      widest: 1,
      read: (register) => this.#read(register),
      write: (register, _, value) => this.#write(register, value),
    });
  }

  /** The guest receives bytes. Fulfilled when it has read them all. */
  receive(bytes: Uint8Array): Promise<void> {
    return new Promise((taken) => {
      if (bytes.length === 0) return taken();
      this.#received.push({ bytes, next: 0, taken });
      this.#updateInterrupt();
    });
  }

  #takeReceived(): number {
    const first = this.#received[0];
    if (first === undefined) return 0;
    const byte = first.bytes[first.next++]!;
    if (first.next === first.bytes.length) {
      this.#received.shift();
      first.taken();
    }
    this.#updateInterrupt();
    return byte;
  }

  /** Registers begin anew; bytes that have been received stay. */
  reset(): void {
    this.#registers.fill(0);
    this.#isFifoOn = false;
    this.#setEmptyPending(false);
  }

  /** State of the port. */
  save(): SerialState {
    return {
      registers: this.#registers.slice(),
      divisor: this.#divisor.slice(),
      isEmptyPending: this.#isEmptyPending,
      isFifoOn: this.#isFifoOn,
      received: Uint8Array.from(Buffer.concat(this.#received.map(({ bytes, next }) => bytes.subarray(next)))),
    };
  }

  /** Makes its state what `save` gave, and its interrupt line what goes with it. */
  restore({ registers, divisor, isEmptyPending, isFifoOn, received }: SerialState): void {
    this.#registers.set(registers);
    this.#divisor.set(divisor);
    this.#isFifoOn = isFifoOn;
    void this.receive(received);
    this.#setEmptyPending(isEmptyPending);
  }

  get #seesDivisor(): boolean {
    return (this.#registers[LINE_CONTROL]! & DIVISOR_ACCESS) !== 0;
  }

  #read(register: number): number {
    if (register <= INTERRUPT_ENABLE && this.#seesDivisor) return this.#divisor[register]!;
    switch (register) {
      case DATA:
        return this.#takeReceived();
      case INTERRUPT_ID:
        return this.#interruptId() | (this.#isFifoOn ? FIFO_IS_ON : 0);
      case LINE_STATUS:
        return EVERYTHING_SENT | (this.#received.length > 0 ? DATA_IS_READY : 0);
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
      case INTERRUPT_ID: // when written, FIFO control
        this.#isFifoOn = (value & FIFO_ON) !== 0;
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

  get #isReceivedPending(): boolean {
    return this.#received.length > 0 && (this.#registers[INTERRUPT_ENABLE]! & RECEIVED_INTERRUPT) !== 0;
  }

  /** The most urgent interrupt. Reading it answers the one for an empty sender. */
  #interruptId(): number {
    if (this.#isReceivedPending) return HAS_RECEIVED;
    const id = this.#isEmptyPending ? IS_EMPTY : NO_INTERRUPT;
    this.#setEmptyPending(false);
    return id;
  }

  #setEmptyPending(isPending: boolean): void {
    this.#isEmptyPending = isPending;
    this.#updateInterrupt();
  }

  #updateInterrupt(): void {
    const isRaised = this.#isEmptyPending || this.#isReceivedPending;
    if (this.#isRaised === isRaised) return;
    this.#isRaised = isRaised;
    this.#wires.interrupt(isRaised);
  }
}
