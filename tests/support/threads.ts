// Threads of a process, which may end while they are looked at: those are none.

import { readdirSync, readFileSync } from 'node:fs';

/** Ids of the threads of this process whose name is meant. */
export function threadsNamed(isMeant: (name: string) => boolean): string[] {
  return threadsOf('self', 'comm').flatMap(([id, name]) => (isMeant(name.trimEnd()) ? [id] : []));
}

/** Whether all threads of a process are stopped. */
export function isStopped(pid: number): boolean {
  return threadsOf(pid, 'stat').every(([, stat]) => / T /.test(stat.replace(/^.*\)/, '')));
}

/** Ids of a process's threads, each with what a file of the kernel says of it. */
function threadsOf(pid: number | 'self', file: string): [string, string][] {
  return readdirSync(`/proc/${pid}/task`).flatMap((id): [string, string][] => {
    try {
      return [[id, readFileSync(`/proc/${pid}/task/${id}/${file}`, 'utf8')]];
    } catch (error) {
      if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code!)) return [];
      throw error;
    }
  });
}
