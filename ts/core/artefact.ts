// Files that the build made and that are loaded at run time.

/** The way from the bundle's folder to build/; defined by the build. */
declare const TO_BUILD: string;

/** The file `name` of build/. */
export function artefact(name: string): URL {
  return new URL(TO_BUILD + name, import.meta.url ?? addressOf(__filename));
}

/** Address of a file. A bundle in CommonJS knows where it is by path alone. */
function addressOf(path: string): string {
  return `file://${encodeURI(path).replace(/[?#]/g, encodeURIComponent)}`;
}
