// Changes of one small machine, each of which makes a plan: what monitors and their guests do to a memory map.

/** RAM with a ROM that may cover it, a BAR, a DAX window and private memory; a VA space and a partition see it. */
export const MACHINE = {
  regions: `
    name    kind       size    in      at     priority  flags
    system  container  200000
    ram     ram        40000   system  0      -1
    rom     rom        4000    system  8000   1         disabled
    bar     device     8000    system  60000
    dax     device     20000   system  80000
    anon    ram        8000    system  c0000
    cover   ram        2000    system  c2000  1         disabled
    uart    mmio       1000    system  f0000
    spare   ram        4000
  `,
  memory: `
    object ram.mem 40000
    object rom.mem 4000
    object bar.mem 8000
    object file 100000
    object secret 10000 private
    map ram 0 40000 ram.mem 0
    map rom 0 4000 rom.mem 0
    map bar 0 4000 bar.mem 0
    map dax 0 4000 file 8000
    map dax 8000 8000 file 20000
    map anon 0 8000 secret 0
    map cover 0 2000 file 0
    map spare 0 4000 secret 8000
    space memory root system
    va va 400000 of memory
    partition vm 16
    attach vtl0 of vm to memory through va end 3fffff
  `,
};

/** RAM of pages of 16 KiB, and what may come to lie over it. */
export const HUGE = `
  object huge 40000 pages 4000
  object giant 20000 pages 10000
  ram big 20000
  map big 0 20000 huge 0
  place big in system at 140000
  mmio registers 1000
  device small 8000
  map small 0 1000 file 0
  map small 3000 5000 file 3000
  device large 10000
  map large 0 10000 giant 10000
`;

/** Registers in a BAR that ring, others whose writes are kept, a ROM that rings, and where that is seen again. */
const EVENTS = `
  mmio notify 1000
  place notify in bar at 5000
  event queue0 of notify at 10 length 4 match 0
  event queue1 of notify at 10 length 4 match 1
  event any of notify at 20 length 0
  event kept of notify at 100 length 100 coalesced
  event flash of rom at ffe length 2
  alias again 8000 of bar at 0
  place again in system at 130000
  events told of vtl0 to memory end 3fffff
`;

export interface Scenario {
  readonly title: string;
  /** One line, or one transaction, that makes the machine ready. */
  readonly ready?: string;
  readonly change: string;
}

export const SCENARIOS: readonly Scenario[] = [
  { title: 'a ROM is put over RAM', change: 'set rom enabled' },
  { title: 'a ROM is taken off RAM', ready: 'set rom enabled', change: 'set rom disabled' },
  {
    title: 'a ROM over RAM becomes another one, in place',
    ready: 'set rom enabled',
    change: 'map rom 0 4000 file 40000',
  },
  { title: 'RAM becomes read-only', change: 'set ram readonly' },
  { title: 'RAM becomes writable again', ready: 'set ram readonly', change: 'set ram writable' },
  { title: 'a BAR is moved', change: 'move bar to 70000' },
  { title: 'a BAR is moved by a part of itself', change: 'move bar to 62000' },
  { title: 'a BAR is moved over RAM, and RAM loses', change: 'move bar to 10000' },
  { title: 'a BAR is hidden', change: 'set bar disabled' },
  { title: 'a BAR is moved, and its events go with it', ready: EVENTS, change: 'move bar to 70000' },
  { title: 'a BAR with events is moved over RAM, and seen in one place', ready: EVENTS, change: 'move bar to 10000' },
  { title: 'registers that ring are covered', ready: EVENTS, change: 'place spare in system at 64000 priority 1' },
  { title: 'a ROM that rings is put over RAM', ready: EVENTS, change: 'set rom enabled' },
  {
    title: 'an event comes, and others go',
    ready: EVENTS,
    change: 'close-event any\nevent late of notify at 20 length 8',
  },
  {
    title: 'a partition is told of events',
    ready: EVENTS.replace(/events told.*/, ''),
    change: 'events told of vtl0 to memory end 3fffff',
  },
  { title: 'a partition with events is detached', ready: EVENTS, change: 'detach told\ndetach vtl0' },
  { title: 'a BAR that nobody has filled is moved', ready: 'unmap bar 0 8000', change: 'move bar to 70000' },
  { title: 'a DAX window maps a part of its file', change: 'map dax 10000 4000 file 0' },
  { title: 'a DAX window maps over what is there', change: 'map dax 0 4000 file c000' },
  { title: 'a DAX window maps over parts of two mappings', change: 'map dax 2000 8000 file 50000' },
  { title: 'a DAX window drops a mapping', change: 'unmap dax 0 4000' },
  { title: 'a DAX window drops the middle of a mapping', change: 'unmap dax a000 2000' },
  { title: 'a DAX mapping becomes read-only', change: 'map dax 8000 4000 file 20000 readonly' },
  { title: 'a DAX window shrinks and loses what was past its end', change: 'resize dax to a000' },
  {
    title: 'PAM: four segments of RAM become what they were not',
    ready: `
      alias pam0 1000 of ram at 20000 readonly
      alias pam1 1000 of rom at 0
      alias pam2 1000 of ram at 22000
      alias pam3 1000 of uart at 0
      place pam0 in system at 20000 priority 2
      place pam1 in system at 21000 priority 2
      place pam2 in system at 22000 priority 2
      place pam3 in system at 23000 priority 2
      set rom enabled
      move rom to 30000
    `,
    change: `
      set pam0 writable
      set pam1 readonly
      set pam2 readonly
      set pam3 disabled
    `,
  },
  { title: 'private memory is hidden', change: 'set anon disabled' },
  { title: 'private memory comes back', ready: 'set anon disabled', change: 'set anon enabled' },
  { title: 'private memory is covered in the middle', change: 'set cover enabled' },
  { title: 'private memory is uncovered in the middle', ready: 'set cover enabled', change: 'set cover disabled' },
  { title: 'private memory is moved', change: 'move anon to d0000' },
  { title: 'private memory is moved by a page, over itself', change: 'move anon to c1000' },
  {
    title: 'private memory takes the place of other private memory',
    change: 'remove anon\nplace spare in system at c0000',
  },
  { title: 'private memory takes the place of shared memory', change: 'place spare in system at 10000 priority 1' },
  { title: 'private memory becomes read-only', change: 'set anon readonly' },
  {
    title: 'a second VA space and a second partition are attached late',
    ready: 'remove anon\nremove cover',
    change: 'va late 400000 of memory\npartition more 16\nattach late of more to memory through late',
  },
  {
    title: 'VTL2 gets the same memory by a second attachment, at an offset',
    change: 'attach vtl2 of vm to memory through va at 1000000 end 13fffff',
  },
  {
    title: 'an attachment is taken away, and a change comes along',
    ready: 'attach vtl2 of vm to memory through va at 1000000 end 13fffff',
    change: 'detach vtl0\nset rom enabled',
  },
  { title: 'everything is detached', change: 'detach vtl0\ndetach va' },
  { title: 'a partition loses the right to write some of RAM', change: 'protect vtl0 10000 8000 rx' },
  { title: 'a partition loses every right to some of RAM', change: 'protect vtl0 10000 8000 none' },
  {
    title: 'a partition gets its rights back',
    ready: 'protect vtl0 10000 8000 rx',
    change: 'protect vtl0 10000 8000 rwx',
  },
  {
    title: 'memory is withheld from a partition, some of it twice, and protected meanwhile',
    ready: 'withhold vtl0 10000 8000 rx\nwithhold vtl0 14000 8000 none',
    change: 'protect vtl0 12000 4000 r\nwithhold vtl0 18000 2000 rwx',
  },
  {
    title: 'what was withheld is given back, and what was protected stays so',
    ready: 'withhold vtl0 10000 8000 none\nprotect vtl0 12000 4000 rx',
    change: 'restore vtl0 10000 8000',
  },
  { title: 'the VMM loses the right to write some of everything', change: 'protect va 0 400000 r' },
  { title: 'the VMM loses every right to private memory', change: 'protect va c0000 8000 none' },
  {
    title: 'two VA spaces show one map, and it changes',
    ready:
      'remove anon\nva second 300000 of memory\npartition other 16\nattach third of other to memory through second',
    change: 'set rom enabled\nmap dax 0 4000 file 0\nmove bar to 64000\nset cover enabled',
  },
  {
    title: 'one space is the mirror of another, somewhere else',
    ready: `
      container outer 400000
      alias mirror 100000 of system at 0
      place mirror in outer at 100000
      remove anon
      space mirrored root outer
      va third 400000 of mirrored
      attach vtl1 of vm to mirrored through third at 2000000 end 2ffffff
    `,
    change: 'set rom enabled\nmove bar to 28000',
  },
  {
    title: 'a batch: a BAR goes, a ROM comes, a window fills, private memory moves',
    change: `
      remove bar
      set rom enabled
      map dax 10000 8000 file 80000
      map dax 18000 8000 file 90000 readonly
      move anon to e0000
      set cover enabled
      ram more 8000
      object more.mem 8000
      map more 0 8000 more.mem 0
      place more in system at 100000
    `,
  },
  {
    title: 'registers are put over a part of a page of RAM',
    ready: 'mmio fuses 28',
    change: 'place fuses in system at 3000 priority 1',
  },
  {
    title: 'registers are taken off a part of a page of RAM',
    ready: 'mmio fuses 28\nplace fuses in system at 3000 priority 1',
    change: 'remove fuses',
  },
  {
    title: 'registers move inside of a page of private memory',
    ready: 'mmio fuses 28\nplace fuses in anon at 2000',
    change: 'move fuses to 2800',
  },
  {
    title: 'private memory with registers inside of a page is moved',
    ready: 'mmio fuses 28\nplace fuses in anon at 2000',
    change: 'move anon to d0000',
  },
  {
    title: 'a part of a page of RAM becomes memory of another object, so that the page shows neither',
    ready: 'device other 4000\nmap other 0 4000 file 0\nalias window 800 of other at 1800',
    change: 'place window in system at 3800 priority 1',
  },
  { title: 'RAM ends inside of a page', change: 'resize ram to 3e800\nresize anon to 7800' },
  {
    title: 'registers are put over a part of a huge page',
    ready: HUGE,
    change: 'place registers in system at 145000 priority 1',
  },
  {
    title: 'registers are taken off a part of a huge page',
    ready: `${HUGE}place registers in system at 145000 priority 1`,
    change: 'remove registers',
  },
  { title: 'a part of a huge page is unmapped', ready: HUGE, change: 'unmap big 4000 1000' },
  { title: 'RAM ends inside of a huge page', ready: HUGE, change: 'resize big to 1e000' },
  {
    title: 'a part of a huge page becomes read-only',
    ready: HUGE,
    change: 'alias shade 6000 of big at 6000 readonly\nplace shade in system at 146000 priority 1',
  },
  { title: 'a part of a huge page is mapped read-only', ready: HUGE, change: 'map big 3000 3000 huge 3000 readonly' },
  {
    title: 'two huge pages give way to small memory, with a hole in it',
    ready: HUGE,
    change: 'place small in system at 144000 priority 1',
  },
  {
    title: 'small memory gives way to huge pages',
    ready: `${HUGE}place small in system at 144000 priority 1`,
    change: 'remove small',
  },
  {
    title: 'small memory that had hidden a part of a huge page goes, and registers come',
    ready: `${HUGE}resize big to 1e000\nplace small in system at 144000 priority 1`,
    change: 'remove small\nplace registers in system at 145000 priority 1\nresize big to 1f000',
  },
  {
    title: 'huge pages give way to larger ones',
    ready: HUGE,
    change: 'place large in system at 140000 priority 1\nplace registers in large at 2000',
  },
  {
    title: 'huge pages take the place of larger ones',
    ready: `${HUGE}place large in system at 140000 priority 1`,
    change: 'priority large -1\nplace registers in big at f000',
  },
  { title: 'huge pages are moved by one', ready: HUGE, change: 'move big to 144000' },
  { title: 'the VMM loses every right to a part of a huge page', ready: HUGE, change: 'protect va 141000 1000 none' },
  {
    title: 'the VMM gets the right to write a part of a huge page back',
    ready: `${HUGE}protect va 142000 6000 r`,
    change: 'protect va 144000 1000 rwx',
  },
  {
    title: 'a partition is attached late to huge pages of which a part is hidden',
    ready: `${HUGE}place registers in system at 145000 priority 1\nremove anon\nremove cover`,
    change: 'va late 400000 of memory\npartition more 16\nattach late of more to memory through late',
  },
  {
    title: 'a view comes with protections, over private memory too',
    change: `
      view vtl 400000 of memory through va
      protect vtl 4000 8000 r
      protect vtl c0000 4000 none
    `,
  },
  {
    title: 'protections of a view move while private memory below them goes home',
    ready: `
      view vtl 400000 of memory through va
      protect vtl 4000 8000 r
      protect vtl c0000 4000 none
    `,
    change: `
      protect vtl 4000 4000 rwx
      protect vtl 8000 8000 none
      protect vtl c0000 8000 r
      set cover enabled
    `,
  },
  {
    title: 'a view goes, with its protections',
    ready: `
      view vtl 400000 of memory through va
      protect vtl c0000 4000 none
    `,
    change: 'detach vtl',
  },
];
