// The package as its users have it: packed, and installed into an empty folder.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Installed {
  /** The user's folder. */
  readonly folder: string;
  /** The package in there. */
  readonly root: string;
  remove(): void;
}

/** Packs what the build has made, and installs that; nothing comes over the network, and no script is run. */
export function install(): Installed {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-installed-'));
  const quiet = ['--ignore-scripts', '--silent', '--no-audit', '--no-fund'];
  const tarball = execFileSync('npm', ['pack', ...quiet, '--pack-destination', folder], { encoding: 'utf8' }).trim();
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  execFileSync('npm', ['install', ...quiet, '--offline', join(folder, tarball)], { cwd: folder });
  const remove = () => rmSync(folder, { recursive: true, force: true });
  return { folder, root: join(folder, 'node_modules/membacking'), remove };
}

/** The README's first example, a module. */
export function readmeExample(): string {
  return /```js\n(import .*? from 'membacking';\n.*?)```/s.exec(readFileSync('README.md', 'utf8'))![1]!;
}

/** A module as a script of CommonJS. */
export function asScript(module: string): string {
  return module.replace(/^import (.*?) from ('.*?');/gm, 'const $1 = require($2);');
}
