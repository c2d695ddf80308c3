// Patience of tests that wait for what comes by itself.

/** Milliseconds after which what should have come by itself is given up. No measure of anything: the lab takes twenty
 *  times as long as the machine that it runs on. */
export const PATIENCE = 600_000;
