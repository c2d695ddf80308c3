// Files that the build made and that are loaded at run time.

/** The way from the bundle's folder to build/; defined by the build. */
declare const TO_BUILD: string;

/** The file `name` of build/. */
export function artefact(name: string): URL {
  return new URL(TO_BUILD + name, import.meta.url);
}
