// A small PC-style monitor: an example of what membacking is for, and a start for one's own. It uses what every user
// can.

export { assemble, type CodePart } from './assemble.ts';
export {
  bootSector,
  demoSector,
  E820_TEXTS,
  leave,
  PRINT_E820,
  PRINTING,
  REAL_MODE_START,
} from './boot-sector.ts';
export type { FirmwareImage } from './firmware.ts';
export { HostBridge, type PamSegment, SEGMENTS } from './host-bridge.ts';
export type { LinuxImage } from './linux.ts';
export { Monitor, type MonitorOptions, type MonitorRestoreOptions, type Stop } from './monitor.ts';
export {
  type Bar,
  type FunctionState,
  PciBus,
  PciFunction,
  type PciIdentity,
  type PciInterrupts,
  portBar,
} from './pci.ts';
export { PortBus, type PortClaim, type PortDevice } from './ports.ts';
export { SerialPort, type SerialState, type SerialWires } from './serial.ts';
export { type RegionMaker, SharedMemoryDevice } from './shared-memory-device.ts';
export { type DiskImage, FileDisk, memoryDisk, overlayDisk, SECTOR, VirtioBlock } from './virtio-block.ts';
