// The page as a file: the template of the build with a title and a trace in it.

import { gzipSync } from 'node:zlib';

/** `template`: build/viewer.html. `trace`: its text. */
export function pageOf(template: string, title: string, trace: string): string {
  const parts: Readonly<Record<string, string>> = {
    title: title.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`),
    trace: gzipSync(trace).toString('base64'),
  };
  return template.replace(/\{\{(title|trace)\}\}/g, (_, name: string) => parts[name]!);
}
