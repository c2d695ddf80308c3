// Private memory that a VA space shows at several places: it is mapped at one of them, its home, whichever that is.

/** Pages at which private memory is seen and not mapped, with those at which it is. */
export type Homes = ReadonlyMap<number, number>;

export const NO_HOMES: Homes = new Map();

/** Pages at which each private page is seen. `privateAt`: name of the one at a page, if there is one. */
export function placesOf(pages: number, privateAt: (page: number) => string | undefined): Map<string, number[]> {
  const places = new Map<string, number[]>();
  for (let page = 0; page < pages; page++) {
    const name = privateAt(page);
    if (name !== undefined) places.set(name, [...(places.get(name) ?? []), page]);
  }
  return places;
}

/** Homes of private pages, each of which must have one. */
export function homesOf(places: ReadonlyMap<string, number[]>, isMapped: (page: number) => boolean): Homes {
  const homes = new Map<number, number>();
  for (const [name, pages] of places) {
    const [home, ...others] = pages.filter(isMapped);
    if (home === undefined || others.length > 0) throw new Error(`${name} is not mapped once of ${pages}`);
    for (const page of pages) if (page !== home) homes.set(page, home);
  }
  return homes;
}
