// Fences that one thread makes in all threads of the process, so that those need none of their own.
#pragma once

namespace membacking {

/// Whether this machine has such fences (membarrier, Linux 4.14). The first call takes some milliseconds.
bool canFenceAllThreads();

/// Makes a full memory barrier in every thread of the process that is running: what a thread does after it in program
/// order sees all that the caller did before, and the caller then sees all that the thread did before it. Precondition:
/// canFenceAllThreads().
void fenceAllThreads();

}  // namespace membacking
