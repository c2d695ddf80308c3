// The addon's part in sharing guest memory with other processes: sockets, mapper threads, and both their sides.

export interface Handle {
  close(): void;
}

/** A range that native code has locked, or JavaScript of any thread or process. `access` is ACCESS_*. */
interface NativeLock {
  readonly id: number;
  readonly holder: string;
  readonly access: number;
  readonly gpa: number;
  readonly length: number;
}

/** Locks of a VA space, of this process or of another one. */
export interface LockSpace {
  /** Keeps others than this thread from new locks on a range that need more than `left`, ACCESS_*. The number of the
   *  bar. */
  bar(gpa: number | bigint, length: number | bigint, left: number): number;
  /** Ends a bar; nothing once the handle is closed. */
  unbar(bar: number): void;
  /** Locks that need more than `left` of a range. */
  lockedIn(gpa: number | bigint, length: number | bigint, left: number): NativeLock[];
  isLocked(id: number): boolean;
  /** Takes a lock away from JavaScript of any thread or process, or asks it to let it go, where it has a view. */
  revoke(id: number): void;
}

/** A message that came through a channel. */
export interface ChannelMessage {
  /** Bytes of the message; none where it was too large. */
  readonly bytes: Uint8Array;
  /** Process of the sender, by the kernel. */
  readonly pid: number;
}

/** One end of a Unix socket that keeps messages apart. */
export interface Channel extends Handle {
  readonly fd: number;
  /** Sends a message at once, with descriptors. False: there is no room for it, or the peer has closed the channel. */
  send(bytes: Uint8Array, fd?: number, second?: number): boolean;
  /** The next message, or null when the peer has closed the channel. One wait at a time: ERR_WAITING. close() rejects
   *  it with ERR_CLOSED. It does not keep the process running. Descriptors that come along are closed. */
  receive(): Promise<ChannelMessage | null>;
}

/** Somebody who has come to a socket at a path. */
export interface Caller {
  readonly channel: Channel;
  /** Process and user that have come, by the kernel. */
  readonly pid: number;
  readonly uid: number;
}

/** Socket at a path. close() takes the path away. */
export interface Listener extends Handle {
  /** The next one who comes; as `Channel.receive`. */
  accept(): Promise<Caller>;
}

/** Ends of a mapper, by the number that `Mapper.end` gives. */
export const MAPPER_ENDS = ['', 'dead', 'killed', 'cut-off'] as const;

/** Mapper thread of another process, as its manager has it. */
export interface Mapper extends Handle, LockSpace {
  /** Descriptors of the client's end of the channel of runs, and of the table of its locks, until `begin`. */
  readonly clientEnd: number;
  readonly lockTable: number;
  /** Says which process has been given both. */
  begin(pid: number): void;
  /** Number of MAPPER_ENDS now; 0 as long as it has not ended, and of one that is closed. */
  readonly end: number;
  /** Number of MAPPER_ENDS, once it has ended; as `Channel.receive`. */
  ended(): Promise<number>;
  /** Ends the client's use of memory: kills its process if that is a child of this one. */
  cutOff(): void;
  /** Shuts the gate of its locks, unless somebody has opened the VA space or locked something: whether nobody has. */
  shut(): boolean;
  unshut(): void;
  /** Whether somebody has opened the VA space or locked something. */
  readonly isUsed: boolean;
}

/** Guest memory of another process's manager, in this one. */
export interface Follower extends Handle {
  /** Token of its VA space for `Reservation.fromToken`. */
  readonly token: bigint;
  /** Whether its manager has ended it, or itself. */
  readonly hasEnded: boolean;
}

/** Classes of the addon for sharing. */
export interface NativeClients {
  readonly Channel: {
    /** Both ends of a new one. */
    pair(): [Channel, Channel];
    /** An end of a duplicate of the caller's descriptor. EPROTOTYPE: of something else. */
    adopt(fd: number): Channel;
  };
  readonly Listener: {
    /** Listens at a path that only this user may reach, or any. EADDRINUSE, ENAMETOOLONG, and what `bind` says. */
    listen(path: string, isForAll: boolean): Listener;
  };
  readonly Mapper: {
    /** `deadline`: milliseconds in which it is to confirm a change. `isCutOff`: whether it is cut off where it does
     *  not; else the change fails. */
    create(name: string, isReadOnly: boolean, deadline: number, isCutOff: boolean): Mapper;
  };
  readonly Follower: {
    /** Opens the memory that is shared at the other end of a Unix socket, whose descriptor stays the caller's, or at a
     *  path; `timeout`: milliseconds for each answer. At a path, only of a manager of root, of this process's user, or
     *  of `uid`: EACCES. ETIMEDOUT, ECONNREFUSED, ECONNRESET, EPROTO, EPROTONOSUPPORT; or what the manager says. */
    open(fd: number | string, timeout: number, uid: number): Promise<Follower>;
  };
}
